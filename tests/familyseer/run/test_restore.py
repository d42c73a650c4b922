"""Going on from records: what states and cost models get back, a crash between or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from costmodels import FamilyCostModel
from familyseer.run._restore import open_database, restore
from familyseer.search import TaskState
from familyseer.search._proposals import new_context
from familyseer.tvm_env import load_tvm

TIMES = (3e-3, 1e-3, 1e10, 2e-3, 4e-3)


@pytest.fixture
def state(make_dense: Callable[..., Any]) -> TaskState:
    return TaskState(make_dense(), "matmul")


@pytest.fixture
def context(state: TaskState, cpu: Any) -> Any:
    return new_context(state.subgraph, cpu, seed=0, threads=2)


@pytest.fixture
def tuning(tmp_path: Path, state: TaskState, cpu: Any) -> Path:
    """A folder with five records of the subgraph, the third a failure."""
    tvm = load_tvm(intrinsics=True)
    book = open_database(tmp_path / "tuning")
    workload = book.commit_workload(state.subgraph.mod)
    for number, time_s in enumerate(TIMES):
        schedule = tvm.s_tir.Schedule(state.subgraph.mod)
        loop = schedule.get_loops(schedule.get_sblock("matmul"))[0]
        schedule.split(loop, [64 >> number, 1 << number])
        args = tvm.s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func(state.subgraph.mod)
        book.commit_tuning_record(
            tvm.s_tir.meta_schedule.database.TuningRecord(
                schedule.trace, workload, [time_s], cpu, args
            )
        )
    book.sync()
    return tmp_path / "tuning"


def new_model(state: TaskState) -> FamilyCostModel:
    return FamilyCostModel({state.subgraph.key: "matmul"}, num_threads=1)


def learnt(model: FamilyCostModel, state: TaskState) -> list[float]:
    return sorted(model.learner.family("matmul").samples.of(state.subgraph.key)[2])


def test_a_state_gets_its_trials_and_its_fastest_candidates_back(
    tuning: Path, state: TaskState, tmp_path: Path
) -> None:
    model = new_model(state)
    restore([state], open_database(tuning), model, tmp_path / "none")
    assert (state.best_s, state.trials, state.rounds) == (1e-3, 5, 1)
    assert [run_s for run_s, _ in state.elite] == [1e-3, 2e-3, 3e-3, 4e-3]
    assert learnt(model, state) == []


def test_a_cost_model_that_was_never_saved_learns_from_the_records(
    tuning: Path, state: TaskState, context: Any, tmp_path: Path
) -> None:
    model = new_model(state)
    restore([state], open_database(tuning), model, tmp_path / "none", [context])
    assert learnt(model, state) == [1e-3, 2e-3, 3e-3, 4e-3, float("inf")]


def test_a_saved_cost_model_learns_only_what_came_after(
    tuning: Path, state: TaskState, context: Any, tmp_path: Path
) -> None:
    book, model = open_database(tuning), new_model(state)
    first = book.latest(book.commit_workload(state.subgraph.mod), 5)[:2]
    result = load_tvm().s_tir.meta_schedule.runner.RunnerResult
    model.update(
        context,
        [record.as_measure_candidate() for record in first],
        [result([float(s) for s in record.run_secs], None) for record in first],
    )
    model.save(str(tmp_path / "models"))
    for _ in range(2):
        again = new_model(state)
        restore([state], open_database(tuning), again, tmp_path / "models", [context])
        assert learnt(again, state) == [1e-3, 2e-3, 3e-3, 4e-3, float("inf")]
        again.save(str(tmp_path / "models"))


def test_a_subgraph_that_was_never_measured_starts_anew(
    tuning: Path, make_dense: Callable[..., Any], cpu: Any, tmp_path: Path
) -> None:
    other = TaskState(make_dense(n=128), "matmul")
    context = new_context(other.subgraph, cpu, seed=0, threads=2)
    restore([other], open_database(tuning), new_model(other), tmp_path / "none", [context])
    assert (other.trials, other.rounds, other.covered) == (0, 0, False)
