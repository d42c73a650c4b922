"""CUDA candidates for the tests: one kernel each, good and bad."""

from __future__ import annotations

import json
from typing import Any

from familyseer.tvm_env import load_tvm

_SCRIPT = """
# from tvm.script import ir as I
# from tvm.script import tirx as T
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def main(A: T.Buffer(({n},), "float32"), B: T.Buffer(({n},), "float32")):
        T.func_attr({{"global_symbol": "main", "tirx.noalias": True}})
{body}
"""


def cuda_target(arch: str = "sm_90") -> Any:
    from familyseer.target import resolve_target

    return resolve_target(json.dumps({"kind": "cuda", "arch": arch}))


def candidate(body: str, n: int = 4096) -> Any:
    """A module with a function of two vectors of n floats; its body is TVMScript."""
    tvm = load_tvm(intrinsics=True)
    indented = "\n".join(" " * 8 + line for line in body.strip().splitlines())
    return tvm.script.from_source(_SCRIPT.format(n=n, body=indented))


def doubles(threads: int = 128, n: int = 4096, *, kernels: int = 1) -> Any:
    """Doubles every element, in one kernel or, in place, in several of them."""
    one = f"""
for b in T.thread_binding({n // threads}, thread="blockIdx.x"):
    for t in T.thread_binding({threads}, thread="threadIdx.x"):
        with T.sblock("double_%d"):
            v = T.axis.spatial({n}, b * {threads} + t)
            B[v] = A[v] * T.float32(2)
"""
    return candidate("\n".join(one % i for i in range(kernels)), n)


def shares(elements: int, n: int = 4096) -> Any:
    """Goes through dynamic shared memory of so many floats a block."""
    return candidate(
        f"""
for b in T.thread_binding({n // 128}, thread="blockIdx.x"):
    with T.sblock("outer"):
        vb = T.axis.spatial({n // 128}, b)
        S = T.sblock_alloc_buffer(({elements},), scope="shared.dyn")
        for t in T.thread_binding(128, thread="threadIdx.x"):
            for k in range({elements // 128}):
                with T.sblock("put"):
                    v = T.axis.spatial({elements}, k * 128 + t)
                    S[v] = A[vb * 128 + v % 128]
        for t in T.thread_binding(128, thread="threadIdx.x"):
            with T.sblock("take"):
                v = T.axis.spatial(128, t)
                B[vb * 128 + v] = S[{elements - 1} - v] + S[v]
""",
        n,
    )


def indexes(floats: int, n: int = 4096) -> Any:
    """Keeps so many floats of each thread in an array whose index the compiler cannot know."""
    return candidate(
        f"""
for b in T.thread_binding({n // 128}, thread="blockIdx.x"):
    for t in T.thread_binding(128, thread="threadIdx.x"):
        with T.sblock("sort"):
            v = T.axis.spatial({n}, b * 128 + t)
            L = T.sblock_alloc_buffer(({floats},), scope="local")
            for k in range({floats}):
                L[k] = A[(v + k) % {n}]
            for k in range({floats}):
                L[T.cast(A[k], "int32") % {floats}] = L[k] + T.float32(1)
            B[v] = L[T.cast(A[v], "int32") % {floats}]
""",
        n,
    )


def calls_nothing() -> Any:
    """Calls a function that is not there, which only the CUDA compiler finds out."""
    return candidate(
        """
for t in T.thread_binding(128, thread="threadIdx.x"):
    with T.sblock("call"):
        v = T.axis.spatial(128, t)
        B[v] = T.call_extern("float32", "no_such_function", A[v])
""",
        128,
    )


def spills(values: int, threads: int = 1024) -> Any:
    """Has so many floats of each thread at work at once, each in a register if there are enough."""
    return candidate(
        f"""
for t in T.thread_binding({threads}, thread="threadIdx.x"):
    with T.sblock("mix"):
        v = T.axis.spatial({threads}, t)
        L = T.sblock_alloc_buffer(({values},), scope="local")
        for k in T.unroll({values}):
            L[k] = A[(v + k) % {threads}]
        for r in T.unroll(3):
            for k in T.unroll({values}):
                L[k] = L[k] * L[(k * 7 + 3) % {values}]
        B[v] = T.float32(0)
        for k in T.unroll({values}):
            B[v] = B[v] + L[k]
""",
        threads,
    )
