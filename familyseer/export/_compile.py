"""Compiling a fused module, untuned or under the best schedules of a database."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from familyseer.atomic import replacing
from familyseer.export._plain import plain_schedules
from familyseer.records._files import FAILED_S
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm
from familyseer.vector_math import vectorisable


def best_records(database: Any, subgraphs: Collection[Subgraph]) -> dict[int, list[Any]]:
    """Valid tuning records of each subgraph by its index, fastest first.

    Subgraphs without a valid record are left out.
    """
    found = {}
    for subgraph in subgraphs:
        if not database.has_workload(subgraph.mod):
            continue
        workload = database.commit_workload(subgraph.mod)
        records = list(database.get_top_k(workload, 8))
        valid = [r for r in records if r.run_secs and float(r.run_secs[0]) < FAILED_S]
        if valid:
            found[subgraph.index] = valid
    return found


def apply_records(fused: Any, target: Any, records: Collection[Any]) -> Any:
    """The fused module with each record's schedule applied to the subgraph that it is for."""
    tvm = load_tvm(intrinsics=True)
    database = tvm.s_tir.meta_schedule.database.MemoryDatabase()
    for record in records:
        workload = database.commit_workload(record.workload.mod)
        database.commit_tuning_record(
            tvm.s_tir.meta_schedule.database.TuningRecord(
                record.trace, workload, record.run_secs, record.target, record.args_info
            )
        )
    with target, database:
        return tvm.relax.transform.MetaScheduleApplyDatabase(enable_warning=False)(fused)


def schedule_the_rest(mod: Any, target: Any, *, plainly: bool = False) -> Any:
    """Default schedules for what no record covers: a GPU cannot run an unscheduled function.

    A processor can; there, `plainly` gives it one of `plain_schedules`. The module is not changed.
    """
    tvm = load_tvm(intrinsics=True)
    if str(target.kind.name) == "llvm":
        return plain_schedules(mod, target) if plainly else mod
    dlight = tvm.s_tir.dlight
    with target:
        return dlight.ApplyDefaultSchedule(
            dlight.gpu.Matmul(),
            dlight.gpu.GEMV(),
            dlight.gpu.Reduction(),
            dlight.gpu.GeneralReduction(),
            dlight.gpu.Fallback(),
        )(mod.clone())  # dlight schedules in place


def build_library(
    mod: Any, target: Any, path: Path, *, plainly: bool = False, vector_math: bool = False
) -> None:
    """Compiles a scheduled module and writes it as a shared library, whole or not at all.

    What has no schedule is compiled as `schedule_the_rest` says. With `vector_math` a processor
    computes exp and the like in vectors (`familyseer.vector_math`), otherwise as TVM has it.
    """
    tvm = load_tvm(intrinsics=True)
    whole = schedule_the_rest(mod, target, plainly=plainly)
    executable = tvm.compile(vectorisable(whole, target) if vector_math else whole, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode=0o755) as draft:
        executable.export_library(str(draft))
