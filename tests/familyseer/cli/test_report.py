"""``familyseer report``: the page, plots as files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from familyseer.cli.main import main
from tests.familyseer.cli.processes import HEAVY, top_level_modules
from tests.familyseer.report.made_run import make_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make_run(tmp_path / "out")


def report(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, args)])


def test_the_page_lies_in_the_folder_of_the_run(out: Path) -> None:
    result = report(out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"the report is in {out / 'report.html'}\n"
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_page_can_be_written_elsewhere_with_plots_beside_it(out: Path, tmp_path: Path) -> None:
    result = report(out, "-o", tmp_path / "a.html", "--png", tmp_path / "plots", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["report"] == str(tmp_path / "a.html")
    assert told["missing"] == []
    assert len(told["plots"]) == 4
    assert all(Path(plot).read_bytes().startswith(b"\x89PNG") for plot in told["plots"])
    assert not (out / "report.html").exists()


def test_what_is_missing_is_said_beside_the_result(out: Path) -> None:
    (out / "tuning" / "machine.json").unlink()
    result = report(out)
    assert result.exit_code == 0
    assert result.stderr == (
        "familyseer: warning: the report leaves out tuning/machine.json: not there\n"
    )


def test_what_is_no_run_or_cannot_be_written_is_refused(out: Path, tmp_path: Path) -> None:
    for args, words in (
        ((tmp_path / "nowhere",), "nowhere: no such folder, expected one that a tuning run wrote"),
        ((tmp_path,), "no tuning run here"),
        ((out, "-o", tmp_path / "gone" / "a.html"), "a.html: cannot be written"),
        ((out, "-o", out), "expected an HTML file"),
    ):
        result = report(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


def test_no_library_of_tensors_is_loaded_for_a_page(out: Path) -> None:
    assert not HEAVY & top_level_modules("report", out)
