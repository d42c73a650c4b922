"""``--tracker`` and ``--device-key`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from familyseer.cli.main import main
from tests.familyseer.fleet.conftest import free_port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tracker", "localhost:9190"], "--tracker localhost:9190: expected --device-key KEY"),
        (["--device-key", "pi"], "--device-key pi: expected --tracker HOST:PORT"),
        (["--tracker", "localhost", "--device-key", "pi"], "--tracker localhost: expected HOST"),
    ],
)
def test_half_a_fleet_is_refused_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, ["tune", "mlp", "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_is_not_there_is_named(tmp_path: Path) -> None:
    where = f"127.0.0.1:{free_port()}"
    arguments = ["tune", "mlp", "-o", str(tmp_path / "out"), "--quiet"]
    result = CliRunner().invoke(main, [*arguments, "--tracker", where, "--device-key", "pi"])
    assert result.exit_code == 2
    assert f"--tracker {where}: " in result.stderr
    assert "Traceback" not in result.stderr
