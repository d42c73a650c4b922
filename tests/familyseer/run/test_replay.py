"""A run's decisions come out the same from its records, and a changed record is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from familyseer.errors import UserError
from familyseer.options import TuneOptions
from familyseer.run import replay, tune
from tests.familyseer.cli.schemas import conforms

RECORDS = Path("tuning") / "database_tuning_record.json"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few rounds, resumed for some more."""
    made = tmp_path_factory.mktemp("replay") / "out"
    tune(TuneOptions(model="mlp", out=made, trials=30, budget_s=3000.0, seed=3))
    tune(TuneOptions(model="mlp", out=made, trials=20, budget_s=3000.0, seed=3, resume=True))
    return made


def test_every_decision_is_made_again(out: Path) -> None:
    first, second = replay(out)
    assert (first.difference, second.difference) == (None, None)
    assert first.trials + second.trials == len((out / RECORDS).read_text().splitlines())
    assert first.rounds >= 3
    assert first.stopped_by is not None
    rows = (out / "history.csv").read_text().splitlines()[1:]
    assert first.rounds + second.rounds == len(rows)


def test_a_record_with_another_time_leads_elsewhere_and_is_noticed(
    out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "out"
    shutil.copytree(out, other)
    lines = (other / RECORDS).read_text().splitlines()
    # what was fast is slow: the search would have gone elsewhere
    records = [json.loads(line) for line in lines]
    for record in records[:12]:
        record[1][1] = [1e-2 / s for s in record[1][1]]
    (other / RECORDS).write_text("".join(json.dumps(r) + "\n" for r in records))
    first = replay(other)[0]
    assert first.difference is not None
    assert first.difference.startswith("round ")
    assert first.trials < 50


def test_a_log_that_a_kill_cut_short_is_followed_to_its_end(out: Path, tmp_path: Path) -> None:
    other = tmp_path / "out"
    shutil.copytree(out, other)
    log = other / "tuning" / "decisions.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:4]))
    (only,) = replay(other)
    assert (only.rounds, only.stopped_by, only.difference) == (3, None, None)


def test_the_command_says_so_and_exits_with_1_where_they_differ(out: Path, tmp_path: Path) -> None:
    def command(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "familyseer.cli", "replay", str(folder), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )

    same = command(out)
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["same"] is True
    conforms(json.loads(same.stdout), "replay")
    other = tmp_path / "out"
    shutil.copytree(out, other)
    lines = (other / RECORDS).read_text().splitlines()
    (other / RECORDS).write_text("".join(line + "\n" for line in lines[:-10]))
    differs = command(other)
    assert differs.returncode == 1, differs.stderr
    assert json.loads(differs.stdout)["runs"][-1]["difference"]


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tuning/decisions\.jsonl"):
        replay(tmp_path)
