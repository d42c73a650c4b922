"""The end of a run: a wrong schedule is found, named, and never shipped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.check import Checker
from familyseer.export import _jobs
from familyseer.measure import WorkerPool
from familyseer.models import load_model
from familyseer.run import _finish, _reference
from familyseer.run._finish import Finisher
from familyseer.run._reference import Reference, make_reference
from familyseer.search import Clock
from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.tvm_env import load_tvm
from tests.familyseer.check.planted import keeps_sums_in


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as made:
        yield made


class Model:
    """The MLP of the zoo, cut, with its untuned library."""

    def __init__(self, target: Any, pool: WorkerPool) -> None:
        self.target = target
        self.clock = Clock(300.0)
        self.model = load_model("mlp")
        self.fused = fuse(self.model.mod, target)
        self.subgraphs = extract_subgraphs(self.fused, target)
        self.reference: Reference = make_reference(
            self.model, self.fused, target, "cpu", pool, self.clock, 0
        )
        self.finisher = Finisher(self.fused, target, "cpu", self.reference, pool, self.clock)


@pytest.fixture(scope="module")
def mlp(cpu: Any, pool: WorkerPool) -> Iterator[Model]:
    with pytest.MonkeyPatch.context() as patch:
        # however slow the machine is
        patch.setattr(_reference, "ONNXRUNTIME_SHARE", 1.0)
        model = Model(cpu, pool)
    yield model
    model.reference.close()


def record(database: Any, subgraph: Any, target: Any, schedule: Any, run_s: float) -> None:
    ms = load_tvm().s_tir.meta_schedule
    workload = database.commit_workload(subgraph.mod)
    args = ms.arg_info.ArgInfo.from_entry_func(subgraph.mod, True)
    database.commit_tuning_record(
        ms.database.TuningRecord(schedule.trace, workload, [run_s], target, args)
    )


def wrong_schedule(mod: Any) -> Any:
    """A schedule that keeps its sums in eight-bit integers: it runs, and it is wrong."""
    return keeps_sums_in(mod, "float16", "int8")


def right_schedule(mod: Any) -> Any:
    schedule = load_tvm(intrinsics=True).s_tir.Schedule(mod)
    schedule.get_sblock("root")  # a trace without instructions is no record to MetaSchedule
    return schedule


def recorded(mlp: Model, *subgraphs: Any) -> Any:
    """A database with a right schedule of each of some subgraphs."""
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    for subgraph in subgraphs:
        record(database, subgraph, mlp.target, right_schedule(subgraph.mod), 1e-3)
    return database


def test_right_schedules_are_shipped_and_checked(mlp: Model, tmp_path: Path) -> None:
    database = recorded(mlp, *mlp.subgraphs)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.fell_back == {}
    assert end.unchecked == []
    assert end.quarantined == []
    assert end.max_rel_error is not None
    assert end.max_rel_error < 1e-3
    assert end.tuned_s is not None
    assert (tmp_path / "model.so").is_file()


def test_a_subgraph_without_a_record_keeps_its_default_schedule_and_is_named(
    mlp: Model, tmp_path: Path
) -> None:
    database = recorded(mlp)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert set(end.fell_back) == {s.name for s in mlp.subgraphs}
    assert end.max_rel_error == 0.0
    assert (tmp_path / "model.so").is_file()


def test_a_wrong_schedule_is_named_and_the_next_best_is_shipped(
    mlp: Model, pool: WorkerPool, tmp_path: Path
) -> None:
    database = recorded(mlp, *mlp.subgraphs)
    victim = mlp.subgraphs[0]
    record(database, victim, mlp.target, wrong_schedule(victim.mod), 1e-6)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert list(end.fell_back) == [victim.name]
    assert "wrong results" in end.fell_back[victim.name]
    assert len(end.quarantined) == 1
    shipped = pool.submit(
        _jobs.run_library, str(tmp_path / "model.so"), "cpu", mlp.reference.inputs
    ).result()
    assert mlp.reference.outputs is not None
    np.testing.assert_allclose(shipped[0], mlp.reference.outputs[0], rtol=1e-3, atol=1e-4)


def test_a_wrong_schedule_leaves_a_reproducer_beside_the_library(
    mlp: Model, tmp_path: Path
) -> None:
    database = recorded(mlp)
    victim = mlp.subgraphs[0]
    record(database, victim, mlp.target, wrong_schedule(victim.mod), 1e-6)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    (found,) = end.quarantined
    assert found["subgraph"] == victim.name
    assert found["reason"].startswith("wrong result: ")
    assert Path(found["file"]).parent == tmp_path / "quarantine"
    assert Path(found["file"]).is_file()


def test_what_was_not_checked_alone_is_caught_in_the_library(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = recorded(mlp, *mlp.subgraphs)
    victim = mlp.subgraphs[1]
    record(database, victim, mlp.target, wrong_schedule(victim.mod), 1e-6)
    monkeypatch.setattr(mlp.reference, "check_s", 0.0)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert [one["subgraph"] for one in end.quarantined] == [victim.name]
    assert end.unchecked == []
    assert end.max_rel_error is not None
    assert end.max_rel_error < 1e-3


def test_without_time_what_is_right_is_shipped_and_named_as_unchecked(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subgraph = mlp.subgraphs[0]
    database = recorded(mlp, subgraph)
    monkeypatch.setattr(mlp.reference, "check_s", 0.0)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.unchecked == [subgraph.name]
    assert subgraph.name not in end.fell_back


def test_what_the_search_has_checked_is_not_checked_again(mlp: Model, tmp_path: Path) -> None:
    subgraph = mlp.subgraphs[0]
    database = recorded(mlp, subgraph)
    pool = mlp.finisher.pool
    with Checker(mlp.target, "cpu", pool, quarantine=tmp_path / "quarantine") as checker:
        assert checker.check(subgraph, right_schedule(subgraph.mod)).right
        spent_s = checker.spent_s
        finisher = Finisher(
            mlp.fused, mlp.target, "cpu", mlp.reference, pool, mlp.clock, checker=checker
        )
        end = finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
        assert checker.spent_s == spent_s
    assert end.unchecked == []


def test_the_library_is_compared_with_onnx_runtime(mlp: Model, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert mlp.reference.onnxruntime_error is not None
    assert mlp.reference.onnxruntime_error < 1e-4
    database = recorded(mlp)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.onnxruntime == ""
    assert end.max_rel_error_onnxruntime == pytest.approx(mlp.reference.onnxruntime_error)


def test_an_import_that_is_wrong_is_told_and_not_blamed_on_tuning(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlp.reference.outputs is not None
    others = [one + 1 for one in mlp.reference.outputs]
    monkeypatch.setattr(mlp.reference, "onnxruntime", others)
    monkeypatch.setattr(mlp.reference, "onnxruntime_error", 0.5)
    database = recorded(mlp, mlp.subgraphs[0])
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert "importing the model" in end.onnxruntime
    assert mlp.subgraphs[0].name not in end.fell_back


def test_a_library_that_alone_differs_from_onnx_runtime_is_not_shipped(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlp.reference.outputs is not None
    # as if the untuned library agreed, and every part of the tuned one had been found right
    monkeypatch.setattr(mlp.reference, "onnxruntime", [one + 1 for one in mlp.reference.outputs])
    monkeypatch.setattr(mlp.reference, "onnxruntime_error", 1e-6)
    database = recorded(mlp, mlp.subgraphs[0])
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert set(end.fell_back.values()) == {"the tuned library gave wrong outputs"}
    assert (tmp_path / "model.so").read_bytes() == mlp.reference.path.read_bytes()


def test_the_library_is_checked_on_zeros_and_on_a_second_seed(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {edge.name for edge in mlp.reference.edges} == {"zeros", "second seed"}
    zeros = next(edge for edge in mlp.reference.edges if edge.name == "zeros")
    monkeypatch.setattr(zeros, "outputs", [one + 1 for one in zeros.outputs])
    database = recorded(mlp, mlp.subgraphs[0])
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert set(end.fell_back.values()) == {"the tuned library gave wrong outputs"}


def test_the_reserve_grows_with_what_must_be_compiled(mlp: Model) -> None:
    from familyseer.run._finish import reserve_s
    from familyseer.search import TaskState

    states = [TaskState(s, "dense") for s in mlp.subgraphs]
    before = reserve_s(states, mlp.reference)
    states[0].build_s = 4.0
    assert reserve_s(states, mlp.reference) >= before + 4.0


def test_the_reserve_has_room_for_what_is_not_yet_checked(mlp: Model) -> None:
    from familyseer.run._finish import reserve_s
    from familyseer.search import TaskState

    states = [TaskState(s, "dense", best_s=1e-3) for s in mlp.subgraphs]
    first, subgraph = right_schedule(mlp.subgraphs[0].mod), mlp.subgraphs[0]
    with Checker(mlp.target, "cpu", mlp.finisher.pool) as checker:
        checker.check(subgraph, first)
        one_checked = reserve_s(states, mlp.reference, checker)
        for other in mlp.subgraphs[1:]:
            checker.check(other, right_schedule(other.mod))
        assert reserve_s(states, mlp.reference, checker) < one_checked


def test_after_ctrl_c_the_library_is_still_checked(mlp: Model, tmp_path: Path) -> None:
    clock = Clock(300.0, started_at=time.monotonic())
    clock.stop()
    finisher = Finisher(mlp.fused, mlp.target, "cpu", mlp.reference, mlp.finisher.pool, clock)
    database = recorded(mlp)
    end = finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.max_rel_error == 0.0


def late(mlp: Model, monkeypatch: pytest.MonkeyPatch, checker: Checker | None = None) -> Finisher:
    """A finisher that begins when there is no time left at all."""
    monkeypatch.setattr(_finish, "GRACE_S", 0.0)
    clock = Clock(1.0, started_at=time.monotonic() - 60.0)
    pool = mlp.finisher.pool
    return Finisher(mlp.fused, mlp.target, "cpu", mlp.reference, pool, clock, checker=checker)


def test_time_for_the_end_runs_out_once_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_finish, "GRACE_S", 0.02)
    left = _finish.time_for_end(Clock(1.0, started_at=time.monotonic() - 60.0))
    assert 0 < left() <= 0.02
    time.sleep(0.03)
    assert left() <= 0


def test_without_time_to_run_the_library_schedules_that_are_right_are_shipped(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subgraph = mlp.subgraphs[0]
    database = recorded(mlp, subgraph)
    with Checker(mlp.target, "cpu", mlp.finisher.pool) as checker:
        assert checker.check(subgraph, right_schedule(subgraph.mod)).right
        finisher = late(mlp, monkeypatch, checker)
        end = finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert subgraph.name not in end.fell_back
    assert "no time left" in end.not_compared
    assert end.max_rel_error is None
    assert (tmp_path / "model.so").is_file()


def test_without_time_to_check_anything_the_untuned_library_is_shipped(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subgraph = mlp.subgraphs[0]
    database = recorded(mlp, subgraph)
    end = late(mlp, monkeypatch).finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert "no time left" in end.fell_back[subgraph.name]
    assert (tmp_path / "model.so").read_bytes() == mlp.reference.path.read_bytes()


def test_where_the_untuned_library_gave_nothing_only_checked_schedules_are_shipped(
    mlp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subgraph = mlp.subgraphs[0]
    database = recorded(mlp, subgraph)
    monkeypatch.setattr(mlp.reference, "outputs", None)
    monkeypatch.setattr(mlp.reference, "check_s", 0.0)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert "could not be checked" in end.fell_back[subgraph.name]
    assert "untuned library is too slow" in end.not_compared


def test_an_untuned_library_that_is_too_slow_is_given_up_and_run_only_once(
    mlp: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(budget_s: float) -> Reference:
        made = make_reference(
            mlp.model, mlp.fused, mlp.target, "cpu", mlp.finisher.pool, Clock(budget_s), 0
        )
        made.close()
        return made

    monkeypatch.setattr(_reference, "MOST_WAIT_SHARE", 0.0)
    plain = again(300.0)
    assert plain.seconds is None
    assert plain.run_s is not None
    assert plain.path.name == "plain.so"
    assert plain.outputs is not None
    assert mlp.reference.outputs is not None
    np.testing.assert_allclose(plain.outputs[0], mlp.reference.outputs[0], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(_reference, "PLAIN_WAIT_SHARE", 0.0)
    given_up = again(300.0)
    assert (given_up.outputs, given_up.seconds, given_up.run_s) == (None, None, None)
    monkeypatch.setattr(_reference, "MOST_WAIT_SHARE", 1.0)
    monkeypatch.setattr(_reference, "UNTUNED_SHARE", 0.0)
    once = again(300.0)
    assert once.outputs is not None
    assert once.seconds is not None
    assert not once.retime
    assert once.edges == []
