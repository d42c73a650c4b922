"""A wrong candidate is a failed one: to the database, the cost model and the incumbent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodels import FamilyCostModel
from familyseer.check import Checker
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._measure import measure
from familyseer.search import Clock, Rounds, TaskState
from familyseer.search._proposals import new_context
from familyseer.search._rounds import FAILED_RUN_S, Plan
from familyseer.tvm_env import load_tvm
from tests.familyseer.check import planted


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[Any, Any]]:
    builder, runner = WarmBuilder(workers=1), WarmRunner()
    yield builder, runner
    builder.close()
    runner.close()


class Told(FamilyCostModel):
    """A cost model that keeps what it is told."""

    def update(self, context: Any, candidates: list[Any], results: list[Any]) -> None:
        self.reasons = [None if r.error_msg is None else str(r.error_msg) for r in results]
        super().update(context, candidates, results)


class Search:
    def __init__(self, cpu: Any, workers: tuple[Any, Any], folder: Path) -> None:
        # large enough for sums in eight bits to be no slower by accident
        self.subgraph = planted.subgraph_of(planted.matmul(32, 32, 64))
        self.state = TaskState(self.subgraph, "matmul")
        self.database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
        self.model = Told({self.subgraph.key: "matmul"})
        self.checker = Checker(cpu, "cpu", workers[1].pool, quarantine=folder)
        self.rounds = Rounds(
            [self.state],
            [new_context(self.subgraph, cpu, seed=0, threads=1)],
            builder=workers[0],
            runner=workers[1],
            database=self.database,
            cost_model=self.model,
            clock=Clock(600.0),
            checker=self.checker,
        )

    def measure(self, *schedules: Any) -> list[Any]:
        return self.rounds.carry_out(Plan("steepest", self.state, list(schedules), 0.0))

    def wrong(self) -> Any:
        return planted.keeps_sums_in(self.subgraph.mod, "float16", "int8")

    def right(self) -> Any:
        schedule = planted.schedule_of(self.subgraph.mod)
        schedule.get_sblock("root")
        return schedule


@pytest.fixture
def search(cpu: Any, workers: tuple[Any, Any], tmp_path: Path) -> Iterator[Search]:
    made = Search(cpu, workers, tmp_path / "quarantine")
    yield made
    made.rounds.close()
    made.checker.close()


def test_a_wrong_candidate_fails_and_is_no_incumbent(search: Search, tmp_path: Path) -> None:
    (done,) = search.measure(search.wrong())
    assert done.run_failed
    assert math.isinf(search.state.best_s)
    assert search.state.incumbent is None
    assert search.state.elite == []
    assert search.state.run_errors == 1
    (record,) = search.database.get_all_tuning_records()
    assert [float(s) for s in record.run_secs] == [FAILED_RUN_S]
    assert search.model.reasons[0] is not None
    assert search.model.reasons[0].startswith("wrong result: ")
    assert len(list((tmp_path / "quarantine").glob("*.json"))) == 1
    assert not Path(str(done.builder_result.artifact_path)).exists()


def test_a_right_candidate_is_taken_and_a_wrong_one_does_not_replace_it(search: Search) -> None:
    (done,) = search.measure(search.right())
    assert search.checker.settled(search.subgraph)
    assert search.state.incumbent is done
    # whatever the wrong one's time, it would be the best
    search.state.best_s = 1e3
    (wrong,) = search.measure(search.wrong())
    assert wrong.run_failed
    assert search.state.incumbent is done
    assert Path(str(done.builder_result.artifact_path)).exists()


def test_the_next_best_of_a_round_counts(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_is_faster(*args: Any, **options: Any) -> Any:
        done, *seconds = measure(*args, **options)
        done[0].retime([done[1].run_s / 2])
        return done, *seconds

    monkeypatch.setattr(search.rounds, "_measure", wrong_is_faster)
    wrong, right = search.measure(search.wrong(), search.right())
    assert wrong.run_failed
    assert not right.run_failed
    assert search.state.best_s == right.run_s
    assert len(search.state.elite) == 1
