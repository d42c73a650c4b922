"""A forecast: what it rests on, what it reckons from that, and that it leaves nothing behind."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from familyseer.cli.main import main
from familyseer.families import form_families
from familyseer.forecast._forecast import _effort, _probe_s, _roof, _untuned
from familyseer.forecast._gain import likely_gain, roofline_us
from familyseer.forecast._pace import Pace, pace_of_probe, pace_of_run, read_earlier
from familyseer.forecast._probe import Probe, probe
from familyseer.options import TuneOptions
from familyseer.report._roofline import Roof
from tests.familyseer.cli.schemas import conforms
from tests.familyseer.report.made_run import make_run, summary, write

TARGET = summary()["target"]
OPTIONS = TuneOptions("m", Path(), budget_s=100.0)
PACE = Pace(0.1, 0.2, 20.0, "probe", "")


def earlier(folder: Path, digest: str = "abc", target: str = TARGET) -> list[Any]:
    out = make_run(folder)
    write(out / "tuning" / "run.json", {"digest": "abc", "target": TARGET})
    return read_earlier([out], target, digest)


def test_a_budget_pays_for_what_is_left_of_it_after_the_rest_of_a_run() -> None:
    told = _effort(OPTIONS, PACE, 5.0, 10)
    assert (told["fixed_s"], told["tuning_s"]) == (20.0, 80.0)
    assert told["candidates"] == {"low": 400, "high": 800}
    assert told["run_s"] == {"low": 100.0, "high": 100.0}


def test_trials_alone_tell_how_long_the_run_takes() -> None:
    told = _effort(replace(OPTIONS, budget_s=None, trials=50), PACE, 5.0, 10)
    assert told["candidates"] == {"low": 50, "high": 50}
    assert told["run_s"] == {"low": 25.0, "high": 30.0}
    assert told["tuning_s"] is None


def test_the_first_pass_gets_a_share_of_the_time_and_at_least_one_candidate_each() -> None:
    first = _effort(OPTIONS, PACE, 5.0, 40)["first_pass"]
    # 0.3 of 80 s at 0.2 and 0.1 s a candidate, for 40 subgraphs
    assert first["candidates_each"] == {"low": 3, "high": 5}
    assert first["seconds"] == {"low": pytest.approx(12.0), "high": pytest.approx(40.0)}
    assert first["fits"] == "yes"


@pytest.mark.parametrize(("subgraphs", "fits"), [(400, "yes"), (401, "perhaps"), (801, "no")])
def test_the_first_pass_fits_if_a_candidate_of_each_does(subgraphs: int, fits: str) -> None:
    assert _effort(OPTIONS, PACE, 5.0, subgraphs)["first_pass"]["fits"] == fits


def test_fewer_trials_than_subgraphs_do_not_fit() -> None:
    told = _effort(replace(OPTIONS, trials=9), PACE, 5.0, 10)
    assert told["first_pass"]["fits"] == "no"


def test_a_budget_that_loading_uses_up_pays_for_nothing() -> None:
    told = _effort(replace(OPTIONS, budget_s=10.0), PACE, 5.0, 10)
    assert told["candidates"] == {"low": 0, "high": 0}
    assert told["run_s"] == {"low": 10.0, "high": 10.0}
    assert told["first_pass"]["fits"] == "no"


def test_a_probe_takes_no_more_than_a_tenth_of_the_budget() -> None:
    assert _probe_s(100.0, 4.0) == pytest.approx(10.0 - 4.0 - 0.8)
    assert _probe_s(20.0, 4.0) < 0
    assert _probe_s(None, 4.0) == _probe_s(1e6, 4.0) < 60.0


def test_an_earlier_run_tells_its_pace_without_its_loading(tmp_path: Path) -> None:
    pace = pace_of_run(earlier(tmp_path / "out")[0])
    assert pace is not None
    # 3 candidates in the 40 s between the first round and the last
    assert pace.low_s < 40 / 3 < pace.high_s
    # 100 s less 65 of searching, building and training
    assert pace.fixed_s == pytest.approx(35.0)
    assert "3 candidates" in pace.why


def test_another_models_run_says_less(tmp_path: Path) -> None:
    own = pace_of_run(earlier(tmp_path / "own")[0])
    other = pace_of_run(earlier(tmp_path / "other", digest="another")[0])
    assert own is not None
    assert other is not None
    assert other.low_s < own.low_s < own.high_s < other.high_s
    assert other.fixed_s is None


def test_a_run_for_another_target_or_no_run_says_nothing(tmp_path: Path) -> None:
    assert earlier(tmp_path / "out", target="cuda") == []
    assert read_earlier([tmp_path], TARGET, "abc") == []


def member(**changes: Any) -> dict[str, Any]:
    base = {"index": 0, "flops": 2e9, "weight": 3, "share": 0.5}
    return {**base, "shapes": [[1000]], "dtypes": ["float32"], **changes}


def test_the_roofline_adds_up_what_computes_and_what_moves() -> None:
    roof = Roof(flops_s=1e12, bytes_s=1e9)
    computes = member()
    moves = member(flops=1.0, weight=1, shapes=[[1_000_000]])
    assert roofline_us([computes, moves], roof) == pytest.approx(3 * 2000.0 + 4000.0)
    assert roofline_us([member(shapes=[[-1]])], roof) is None
    assert roofline_us([computes], None) is None


def test_no_gain_is_promised_beyond_the_roofline_or_below_the_untuned() -> None:
    gain = likely_gain(100.0, 300.0)
    assert gain.low_us is not None
    assert 100.0 < gain.low_us < 300.0
    assert gain.high_us == 300.0
    assert likely_gain(None, 300.0).low_us is None
    assert likely_gain(100.0, 300.0, None, 200.0).high_us == 200.0


def test_peaks_that_the_model_beat_already_are_not_believed() -> None:
    assert likely_gain(100.0, 300.0, 90.0) == likely_gain(None)


def test_peaks_of_earlier_runs_on_this_machine_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: Any
) -> None:
    runs = earlier(tmp_path / "out")
    measured = "familyseer.forecast._forecast.measure_peaks"
    monkeypatch.setattr(measured, lambda _cores, _time_s: (1e9, 1e12))
    assert _roof(OPTIONS, cpu, runs) == Roof(1e9, 1e12)
    monkeypatch.setattr("familyseer.forecast._forecast.cpu_model", lambda: "A Processor")
    monkeypatch.setattr("familyseer.forecast._forecast.available_cores", lambda: 2)
    assert _roof(OPTIONS, cpu, runs) == Roof(2e11, 1e12)


def test_untuned_tells_which_part_of_the_model_it_is_of() -> None:
    members = [member(), member(index=1, weight=1)]
    whole = _untuned(Probe(untuned_s={0: 1e-3, 1: 2e-3}), None, members)
    assert (whole["untuned_us"], whole["untuned_share"]) == (pytest.approx(5000.0), 1.0)
    part = _untuned(Probe(untuned_s={0: 1e-3}), None, members)
    assert (part["untuned_us"], part["untuned_share"]) == (pytest.approx(3000.0), 0.5)
    assert _untuned(None, None, members)["untuned_us"] is None


def test_a_probe_measures_subgraphs_as_they_are_and_candidates(cpu: Any, make_dense: Any) -> None:
    subgraphs = [make_dense(index=0), make_dense(96, 32, 48, index=1)]
    found = probe(OPTIONS, subgraphs, form_families(subgraphs), cpu, 120.0)
    assert set(found.untuned_s) == {0, 1}
    assert all(seconds > 0 for seconds in found.untuned_s.values())
    assert found.builds == 2
    # a first round and a longer one of the family's heaviest member
    assert found.subgraphs == 1
    assert 0 < found.candidates <= 13
    assert found.flops_s > 0
    pace = pace_of_probe(found, 1.0, len(subgraphs))
    assert pace is not None
    assert 0 < pace.low_s < pace.high_s
    assert pace.fixed_s is not None


def test_a_dry_run_tells_of_the_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # time is counted from the import of the command line, and other tests came before
    monkeypatch.setattr("familyseer.cli._dry_run.STARTED_AT", time.monotonic())
    # too short for a probe
    args = ["tune", "mlp", "--dry-run", "--budget", "2s"]
    conforms(json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout), "tune-dry-run")
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mlp on llvm ")
    assert lines[0].endswith(": 3 subgraphs in 1 family")
    assert "The pace is a guess." in result.stdout
    assert "a tenth of the budget" in result.stdout
    assert max(map(len, lines)) <= 80
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_for_another_machines_gpu_says_that_nothing_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("familyseer.cli._dry_run.STARTED_AT", time.monotonic())
    args = ["tune", "mlp", "--dry-run", "--target", "nvidia/nvidia-h100", "--trials", "9", "--json"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    conforms(told, "tune-dry-run")
    assert told["target"] == "cuda sm_90a"
    assert "this machine has no cuda device" in told["pace"]["why"]
    assert told["roofline_us"] is told["likely_us"] is None
    assert told["candidates"] == {"low": 9, "high": 9}


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["mpl", "--dry-run"], "mpl"),
        (["mlp", "--dry-run", "--target", "bogus"], "bogus"),
        (["mlp", "--dry-run", "--warm-start", "nowhere"], "nowhere"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(args: list[str], named: str) -> None:
    result = CliRunner().invoke(main, ["tune", *args, "--json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert result.stderr.count("\n") == 1
