"""``scripts/latency_over_time.py`` on a real short run, and runs that a benchmark keeps."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from familyseer.compare import CompareOptions, read_curve

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(importlib.import_module("_results"), "RESULTS", tmp_path)
    return importlib.import_module


def test_the_library_of_each_moment_is_made_of_what_was_measured_by_then(
    module: Any, tmp_path: Path
) -> None:
    from familyseer.options import TuneOptions
    from familyseer.run import tune

    out = tmp_path / "out"
    tune(TuneOptions(model="mlp", out=out, budget_s=120.0, trials=12))
    script = module("latency_over_time")
    curve = read_curve(out / "history.csv")
    middle, end = curve[0].elapsed_s, curve[-1].elapsed_s
    asked = [str(out), "--at", f"{middle + 0.001}s", "--at", f"{end + 1}s", "--name", "kept"]
    asked += ["--beside", f"shipped={out / 'model.so'}", "--repeats", "50"]
    done = CliRunner().invoke(script.main, asked)
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [one["trials"] for one in kept["moments"]] == [curve[0].trials, 12]
    assert [one["covered"] for one in kept["moments"]] == [1, 3]
    # two of three subgraphs are untuned in the first
    assert kept["moments"][0]["latency_us"] > kept["moments"][1]["latency_us"]
    assert set(kept["beside_us"]) == {"shipped"}


def test_what_is_no_library_is_refused_by_name(module: Any, tmp_path: Path) -> None:
    script = module("latency_over_time")
    done = CliRunner().invoke(script.main, [str(tmp_path), "--at", "1m", "--beside", "stock"])
    assert done.exit_code == 2
    assert "stock: expected NAME=LIBRARY" in done.output


def test_an_ended_run_is_read_and_an_interrupted_one_made_again(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_runs = module("_kept_runs")
    options = CompareOptions(model="mlp", out=tmp_path / "runs", budget_s=1.0, tuners=())
    made = []

    def run_tuner(_: CompareOptions, tuner: str, number: int) -> dict[str, Any]:
        folder = options.out / f"{tuner}-{number}"
        # as `tune` does with a folder that holds a run already
        folder.mkdir()
        made.append((tuner, number))
        return {"tuner": tuner, "trials": 7}

    monkeypatch.setattr(kept_runs, "run_tuner", run_tuner)
    (options.out / "familyseer-0").mkdir(parents=True)
    first = kept_runs.run_or_read(options, "familyseer", 0)
    assert kept_runs.run_or_read(options, "familyseer", 0) == first
    assert made == [("familyseer", 0)]
