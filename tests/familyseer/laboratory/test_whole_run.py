"""A replayed run is the same to the byte, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from familyseer.laboratory.tables import load_table
from familyseer.laboratory.whole import Replayed, replay_run
from familyseer.laboratory.workers import Emulator

TABLE = Path(__file__).resolve().parents[3] / "benchmarks" / "tables" / "bert_small.table.xz"
BUDGET_S = 8.0


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


def test_the_same_seed_decides_the_same_with_1_2_and_4_workers(run: Any) -> None:
    one, two, four = (run(workers=n) for n in (1, 2, 4))
    assert one.trials > 16
    assert "\n".join(one.history).encode() == "\n".join(two.history).encode()
    assert "\n".join(one.history).encode() == "\n".join(four.history).encode()


def test_another_seed_decides_otherwise(run: Any) -> None:
    assert run(seed=4).history != run(seed=3).history


def test_a_budget_of_work_is_kept(run: Any) -> None:
    replayed = run()
    assert replayed.stopped_by == "budget"
    assert 0.7 * BUDGET_S < float(replayed.history[-1].split(",")[0]) < 1.1 * BUDGET_S


def test_searching_finds_better_than_its_first_candidates(run: Any) -> None:
    replayed = run()
    estimates = [float(e) for line in replayed.history if (e := line.split(",")[6]) != "None"]
    assert replayed.estimated_s == estimates[-1] < 0.95 * estimates[0]
