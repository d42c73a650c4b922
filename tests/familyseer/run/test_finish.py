"""The end of a run: a wrong schedule is found, named, and never shipped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.export import _jobs
from familyseer.measure import WorkerPool
from familyseer.models import load_model
from familyseer.run._finish import Finisher
from familyseer.run._reference import Reference, make_reference
from familyseer.search import Clock
from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.tvm_env import load_tvm


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
    tvm = load_tvm(intrinsics=True)
    schedule = tvm.s_tir.Schedule(mod)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        iters = [int(v.iter_type) for v in schedule.get(block).iter_vars]
        if 2 in iters:
            cached = schedule.cache_write(block, 0, "global")
            del cached
            schedule.unsafe_set_dtype(block, 0, "float16")
            schedule.unsafe_set_dtype(block, 0, "int8")
            return schedule
    raise AssertionError("no block with a reduction")


def right_schedule(mod: Any) -> Any:
    schedule = load_tvm(intrinsics=True).s_tir.Schedule(mod)
    schedule.get_sblock("root")  # a trace without instructions is no record to MetaSchedule
    return schedule


def test_right_schedules_are_shipped_and_checked(mlp: Model, tmp_path: Path) -> None:
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    for subgraph in mlp.subgraphs:
        record(database, subgraph, mlp.target, right_schedule(subgraph.mod), 1e-3)
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.fell_back == {}
    assert end.max_rel_error is not None
    assert end.max_rel_error < 1e-3
    assert end.tuned_s is not None
    assert (tmp_path / "model.so").is_file()


def test_a_subgraph_without_a_record_keeps_its_default_schedule_and_is_named(
    mlp: Model, tmp_path: Path
) -> None:
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    end = mlp.finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert set(end.fell_back) == {s.name for s in mlp.subgraphs}
    assert end.max_rel_error == 0.0
    assert (tmp_path / "model.so").is_file()


def test_a_wrong_schedule_is_named_and_the_next_best_is_shipped(
    mlp: Model, pool: WorkerPool, tmp_path: Path
) -> None:
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    for subgraph in mlp.subgraphs:
        record(database, subgraph, mlp.target, right_schedule(subgraph.mod), 1e-3)
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


def test_the_reserve_grows_with_what_must_be_compiled(mlp: Model) -> None:
    from familyseer.run._finish import reserve_s
    from familyseer.search import TaskState

    states = [TaskState(s, "dense") for s in mlp.subgraphs]
    before = reserve_s(states, mlp.reference)
    states[0].build_s = 4.0
    assert reserve_s(states, mlp.reference) >= before + 4.0


def test_after_ctrl_c_the_library_is_still_checked(mlp: Model, tmp_path: Path) -> None:
    clock = Clock(300.0, started_at=time.monotonic())
    clock.stop()
    finisher = Finisher(mlp.fused, mlp.target, "cpu", mlp.reference, mlp.finisher.pool, clock)
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    end = finisher.finish(mlp.subgraphs, database, tmp_path / "model.so")
    assert end.max_rel_error == 0.0
