"""What tests of several rooms share: this machine's CPU as a target, and small subgraphs."""

from __future__ import annotations

from typing import Any

import pytest

from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm


@pytest.fixture(scope="session")
def cpu() -> Any:
    from familyseer.target import resolve_target

    return resolve_target(None)


@pytest.fixture(scope="session")
def make_dense() -> Any:
    """Makes a matmul + relu subgraph of given extents."""

    def make(n: int = 64, m: int = 64, k: int = 64, index: int = 0, weight: int = 1) -> Subgraph:
        tvm = load_tvm(intrinsics=True)
        te = tvm.te
        a, b = te.placeholder((n, k), name="A"), te.placeholder((k, m), name="B")
        r = te.reduce_axis((0, k), name="r")
        c = te.compute((n, m), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="matmul")
        d = te.compute((n, m), lambda i, j: te.max(c[i, j], tvm.tirx.const(0.0, "float32")))
        func = te.create_prim_func([a, b, d]).with_attr("tirx.noalias", True)
        mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
        flops = float(tvm.s_tir.analysis.estimate_tir_flops(mod))
        return Subgraph(index, subgraph_key(mod), f"matmul_{n}x{m}x{k}", mod, weight, flops)

    return make


@pytest.fixture(scope="session")
def softmax_model() -> Any:
    """A Relax module that takes a softmax."""
    relax = load_tvm().relax
    build = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((16, 64), "float32"))
    with build.function("main", [x]):
        with build.dataflow():
            out = build.emit_output(build.emit(relax.op.nn.softmax(x, axis=-1)))
        build.emit_func_output(out)
    return build.get()
