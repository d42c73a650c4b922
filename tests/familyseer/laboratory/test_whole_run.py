"""A replayed run is the same to the byte, whatever the number of workers, then and later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from familyseer.laboratory.tables import load_table
from familyseer.laboratory.whole import Replayed, replay_run
from familyseer.laboratory.workers import Emulator

TABLE = Path(__file__).resolve().parents[3] / "benchmarks" / "tables" / "bert_small.table.xz"
BUDGET_S = 12.0


@pytest.fixture(scope="module")
def emulator(cpu: Any) -> Emulator:
    return Emulator([load_table(TABLE)], cpu)


@pytest.fixture(scope="module")
def run(cpu: Any, make_dense: Any, emulator: Emulator) -> Any:
    sizes = ((64, 64, 64), (128, 64, 32), (32, 256, 64))
    subgraphs = [make_dense(*size, index=i) for i, size in enumerate(sizes)]

    def replayed(**options: Any) -> Replayed:
        options = {"seed": 3, "budget_s": BUDGET_S, **options}
        return replay_run(subgraphs, cpu, emulator, **options)

    return replayed


@pytest.fixture(scope="module")
def alone(run: Any) -> Replayed:
    """One worker's run."""
    return run(workers=1)


@pytest.mark.parametrize(
    "workers", [{"workers": 2}, {"workers": 4}, {"workers": 8}, {"joins": {2: 5, 5: 8, 7: 1}}]
)
def test_the_same_seed_decides_the_same_whatever_the_workers(
    run: Any, alone: Replayed, workers: Any
) -> None:
    others = run(**workers)
    assert alone.trials > 16
    assert len(alone.history) > 7
    assert "\n".join(alone.history).encode() == "\n".join(others.history).encode()


def test_another_seed_decides_otherwise(run: Any, alone: Replayed) -> None:
    assert run(seed=4).history != alone.history


def test_a_budget_of_work_is_kept(alone: Replayed) -> None:
    replayed = alone
    assert replayed.stopped_by == "budget"
    assert 0.7 * BUDGET_S < float(replayed.history[-1].split(",")[0]) < 1.1 * BUDGET_S


def test_searching_finds_better_than_its_first_candidates(alone: Replayed) -> None:
    replayed = alone
    estimates = [float(e) for line in replayed.history if (e := line.split(",")[6]) != "None"]
    assert replayed.estimated_s == estimates[-1] < 0.95 * estimates[0]
