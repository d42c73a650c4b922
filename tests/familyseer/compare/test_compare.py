"""A real comparison, as short as one can be: each tuner in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from familyseer.compare import CompareOptions, compare
from familyseer.compare._compare import environment
from familyseer.errors import UserError
from tests.familyseer.cli.schemas import conforms


def test_tuners_get_the_same_time_and_are_measured_alike(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "familyseer.cli", "compare", "mlp", "--budget", "25s"]
    command += ["--tuners", "familyseer,random", "-o", str(out), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    conforms(result, "compare")
    assert [run["tuner"] for run in result["runs"]] == ["familyseer", "random"]
    for run in result["runs"]:
        assert run["first_pass_finished"]
        assert run["trials"] > 3
        assert run["elapsed_s"] <= 25 + 10
        assert run["tuned_us"] < run["untuned_us"]
        assert run["estimated_us"] > 0
    assert result["runs"][0]["untuned_us"] == result["runs"][1]["untuned_us"]
    assert {(row["tuner"], row["reaches"]) for row in result["reach"]} == {
        ("familyseer", "random"),
        ("random", "familyseer"),
    }
    assert Path(result["plot"]).is_file()


def test_stock_without_time_for_its_first_pass_is_shown_as_that(tmp_path: Path) -> None:
    # far less than stock needs to start its builder: it ends with what it has, which may be nothing
    options = CompareOptions(
        model="mlp", out=tmp_path / "out", budget_s=12.0, tuners=("metaschedule",)
    )
    run = compare(options)["runs"][0]
    assert run["covered"] < run["subgraphs"]
    assert not run["first_pass_finished"]
    assert run["estimated_us"] is None
    assert run["tuned_us"] > 0


def test_a_folder_with_a_comparison_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text("{}")
    options = CompareOptions(model="mlp", out=tmp_path, budget_s=1.0, tuners=("random",))
    with pytest.raises(UserError, match="holds a comparison already"):
        compare(options)
    assert (tmp_path / "compare.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("tuners", "gpus", "shown"),
    [
        (("familyseer", "metaschedule"), None, "GPU-a"),
        (("familyseer", "metaschedule"), 2, "GPU-a,3"),
        (("familyseer", "metaschedule-warm", "random"), None, "GPU-a,3,5"),
        (("familyseer", "random"), 1, "GPU-a"),
    ],
)
def test_tuners_are_shown_as_many_gpus_as_the_one_that_can_use_fewest(
    tuners: tuple[str, ...],
    gpus: int | None,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3,5")
    options = CompareOptions(model="mlp", out=tmp_path, budget_s=1.0, tuners=tuners, gpus=gpus)
    assert environment(options)["CUDA_VISIBLE_DEVICES"] == shown


def test_our_runner_is_given_all_of_stocks_candidates_at_once(tmp_path: Path) -> None:
    from familyseer.compare._ledger import Ledger
    from familyseer.compare._stock import _Runner
    from familyseer.tvm_env import load_tvm

    ms = load_tvm().s_tir.meta_schedule
    asked: list[int] = []

    class Stock:
        def run(self, runner_inputs: list[Any]) -> list[Any]:
            asked.append(len(runner_inputs))
            done = ms.runner.RunnerResult(None, "not timed")
            return [
                ms.runner.RunnerFuture(f_done=lambda: True, f_result=lambda: done)
                for _ in runner_inputs
            ]

    class Ours(Stock):
        def start(self) -> None:
            raise AssertionError("its run starts them")

    candidates = SimpleNamespace(mods={}, current="dense")
    subgraph = SimpleNamespace(key="dense", name="dense", weight=1)
    ledger = Ledger([subgraph], tmp_path / "history.csv", time.monotonic(), 60.0)  # type: ignore[list-item]
    inputs = [ms.runner.RunnerInput(f"{i}.so", "cuda", []) for i in range(3)]
    for runner, expected in ((Stock(), [1, 1, 1]), (Ours(), [3])):
        asked.clear()
        assert len(_Runner(ledger, candidates, candidates, runner).run(inputs)) == 3
        assert asked == expected
    assert ledger.trials == 6
