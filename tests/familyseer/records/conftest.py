"""A subgraph with schedules that TVM made, and records of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from familyseer.tvm_env import load_tvm


def make_schedule(mod: Any, factor: int) -> Any:
    """A schedule of a matmul whose first loop is split by a factor."""
    schedule = load_tvm(intrinsics=True).s_tir.Schedule(mod)
    loop = schedule.get_loops(schedule.get_sblock("matmul"))[0]
    first, second = schedule.sample_perfect_tile(loop, 2, decision=[64 // factor, factor])
    schedule.split(loop, [first, second])
    return schedule


@pytest.fixture(scope="session")
def make_record(cpu: Any) -> Callable[..., Any]:
    """Makes a tuning record of a workload: its seconds, and the factor that tells it apart."""

    def make(workload: Any, seconds: list[float] | None, factor: int = 4) -> Any:
        ms = load_tvm().s_tir.meta_schedule
        schedule = make_schedule(workload.mod, factor)
        args = ms.arg_info.ArgInfo.from_entry_func(workload.mod, remove_preproc=True)
        return ms.database.TuningRecord(schedule.trace, workload, seconds, cpu, args)

    return make
