"""Wrong kernels, each wrong in one way, and the right ones beside them."""

from __future__ import annotations

from typing import Any

from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm

CHANNELS, SIDE = 8, 14


def subgraph_of(mod: Any, name: str = "planted", index: int = 0) -> Subgraph:
    return Subgraph(index, subgraph_key(mod), name, mod, 1, 1e6)


def schedule_of(mod: Any) -> Any:
    """A schedule that is its module as it is: what some broken transformation would give."""
    return load_tvm(intrinsics=True).s_tir.Schedule(mod)


def module(arguments: list[Any]) -> Any:
    tvm = load_tvm(intrinsics=True)
    func = tvm.te.create_prim_func(arguments).with_attr("tirx.noalias", True)
    return tvm.IRModule({"main": func.with_attr("global_symbol", "main")})


def matmul(n: int, m: int, k: int, *, summed: int | None = None, dtype: str = "float32") -> Any:
    """A matmul that sums the first `summed` of its `k` products, by default all."""
    te = load_tvm(intrinsics=True).te
    a, b = te.placeholder((n, k), dtype, name="A"), te.placeholder((k, m), dtype, name="B")
    r = te.reduce_axis((0, k if summed is None else summed), name="r")
    return module([a, b, te.compute((n, m), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r))])


def convolution(*, rows_padded: int = 1) -> Any:
    """A 3 x 3 convolution with a border of 1; the last `1 - rows_padded` row of it is not there."""
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    x = te.placeholder((1, CHANNELS, SIDE, SIDE), name="X")
    w = te.placeholder((CHANNELS, CHANNELS, 3, 3), name="W")

    def pad(n: Any, c: Any, i: Any, j: Any) -> Any:
        # without its last row of zeros the border repeats the image's last row
        low, high = 1, SIDE + 1 if rows_padded else SIDE + 2
        inside = tvm.tirx.all(i >= low, i < high, j >= 1, j < SIDE + 1)
        row = tvm.tirx.min(i - 1, SIDE - 1)
        return tvm.tirx.if_then_else(inside, x[n, c, row, j - 1], tvm.tirx.const(0.0, "float32"))

    p = te.compute((1, CHANNELS, SIDE + 2, SIDE + 2), pad, name="pad")
    c, u, v = (te.reduce_axis((0, extent)) for extent in (CHANNELS, 3, 3))
    y = te.compute(
        (1, CHANNELS, SIDE, SIDE),
        lambda n, f, i, j: te.sum(p[n, c, i + u, j + v] * w[f, c, u, v], axis=[c, u, v]),
    )
    return module([x, w, y])


def keeps_sums_in(mod: Any, *dtypes: str) -> Any:
    """A schedule, made of TVM's own steps, whose sums are kept in a smaller type."""
    schedule = schedule_of(mod)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if any(int(v.iter_type) == 2 for v in schedule.get(block).iter_vars):
            schedule.cache_write(block, 0, "global")
            for dtype in dtypes:
                schedule.unsafe_set_dtype(block, 0, dtype)
            return schedule
    raise AssertionError("no block with a reduction")


def without_initialisation(mod: Any) -> Any:
    """The module with its sums starting from whatever the memory holds."""
    import tvm_ffi

    tvm = load_tvm(intrinsics=True)
    schedule = schedule_of(mod)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        schedule.decompose_reduction(block, schedule.get_loops(block)[0])

    def drop(store: Any) -> Any:
        is_zero = isinstance(store.value, tvm.tirx.FloatImm) and float(store.value.value) == 0.0
        return tvm.tirx.Evaluate(0) if is_zero else store

    function = schedule.mod["main"]
    body = tvm_ffi.structural_map(function.body, [(tvm.tirx.BufferStore, drop)])
    return tvm.IRModule({"main": function.with_body(body)})
