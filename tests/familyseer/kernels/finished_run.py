"""The folder of a finished run, with schedules made by hand in place of a search."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from familyseer.families import families_json, form_families
from familyseer.records import RecordBook
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm

HOPPER = {
    "kind": "cuda",
    "arch": "sm_90a",
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
    "host": {"kind": "llvm"},
}
Schedule = Callable[[Any], None]


def row_softmax(dtype: str = "float32", m: int = 24, n: int = 40, k: int = 48) -> Subgraph:
    """A matmul, and each row of its exponentials over their sum: buffers between three kernels."""
    tvm = load_tvm(intrinsics=True)
    te, tirx = tvm.te, tvm.tirx
    a, b = te.placeholder((m, k), dtype, name="A"), te.placeholder((k, n), dtype, name="B")
    r, s = te.reduce_axis((0, k), name="r"), te.reduce_axis((0, n), name="s")
    c = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="C")
    e = te.compute((m, n), lambda i, j: tirx.exp(c[i, j]), name="E")
    t = te.compute((m,), lambda i: te.sum(e[i, s], axis=s), name="T")
    d = te.compute((m, n), lambda i, j: e[i, j] / t[i], name="D")
    return _subgraph("fused_matmul_softmax", te.create_prim_func([a, b, d]))


def doubled(dtype: str = "float32", name: str = "tanh", extent: int = 32) -> Subgraph:
    """Twice its input, under a name that C has already."""
    te = load_tvm(intrinsics=True).te
    x = te.placeholder((extent,), dtype, name="double")
    y = te.compute((extent,), lambda i: x[i] + x[i], name="Y")
    return _subgraph(name, te.create_prim_func([x, y]))


def _subgraph(name: str, function: Any) -> Subgraph:
    tvm = load_tvm()
    function = function.with_attr({"tirx.noalias": True, "global_symbol": "main"})
    mod = tvm.IRModule({"main": function})
    return Subgraph(0, subgraph_key(mod), name, mod, 1, 1e3)


def parallel(schedule: Any) -> None:
    """Rows over the threads of a CPU."""
    for block in _blocks(schedule):
        schedule.parallel(schedule.get_loops(block)[0])


def rows_to_blocks(schedule: Any) -> None:
    """A thread block a row; what is computed for each element, by a thread each."""
    for block in _blocks(schedule):
        loops = schedule.get_loops(block)
        schedule.bind(loops[0], "blockIdx.x")
        # a row's sum is one thread's
        if len(loops) > 1 and schedule.get(block).name_hint != "T":
            schedule.bind(loops[1], "threadIdx.x")


def shared_rows(schedule: Any) -> None:
    """As `rows_to_blocks`, with a row of the matmul's first input in dynamic shared memory."""
    rows_to_blocks(schedule)
    matmul = schedule.get_sblock("C")
    copied = schedule.cache_read(matmul, 0, "shared.dyn")
    schedule.compute_at(copied, schedule.get_loops(matmul)[0])
    schedule.bind(schedule.get_loops(copied)[-1], "threadIdx.x")


def _blocks(schedule: Any) -> list[Any]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def finished_run(
    out: Path,
    target: Any,
    records: Sequence[tuple[Subgraph, Sequence[tuple[Schedule, float]]]],
    **summary: Any,
) -> Path:
    """Makes OUT with a record of so many seconds for each schedule of each subgraph."""
    tvm = load_tvm(intrinsics=True)
    ms = tvm.s_tir.meta_schedule
    out.mkdir(parents=True)
    subgraphs = [
        Subgraph(i, one.key, one.name, one.mod, one.weight, one.flops)
        for i, (one, _) in enumerate(records)
    ]
    book = RecordBook(out / "tuning")
    for subgraph, schedules in records:
        workload = book.commit_workload(subgraph.mod)
        for change, seconds in schedules:
            schedule = tvm.s_tir.Schedule(subgraph.mod)
            change(schedule)
            args = ms.arg_info.ArgInfo.from_entry_func(subgraph.mod, False)
            book.commit_tuning_record(
                ms.database.TuningRecord(schedule.trace, workload, [seconds], target, args)
            )
    book.sync()
    families = families_json(form_families(subgraphs), subgraphs, "op")
    (out / "families.json").write_text(json.dumps(families))
    (out / "model.so").write_bytes(b"")
    kind = "cuda" if target.kind.name == "cuda" else "cpu"
    described = {"device": kind, "target": str(target), "inputs": [], "outputs": [], **summary}
    (out / "summary.json").write_text(json.dumps(described))
    return out
