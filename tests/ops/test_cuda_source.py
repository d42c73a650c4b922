"""What TVM's CUDA text lacks is given to it, so that it compiles and means the same."""

from __future__ import annotations

from typing import Any

import pytest

from familyseer.tvm_env import load_tvm
from ops.cuda_source import mended

HEADERS = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
# the vector of eight lanes, a lane's type, and how TVM reads lane i
VECTORS = [
    ("longlong4", "int", "((int2*)(&(v.{part})))->{half}"),
    ("ulonglong4", "float", "((float2*)(&(v.{part})))->{half}"),
    ("uint4", "half", "((half2*)(&(v.{part})))->{half}"),
    ("uint4", "nv_bfloat16", "((nv_bfloat162*)(&(v.{part})))->{half}"),
    ("int4", "short", "((short2*)(&(v.{part})))->{half}"),
]


def kernel(vector: str, lane: str, access: str) -> str:
    lanes = ", ".join(f"x[{i}]" for i in range(8))
    reads = "".join(
        f"y[{i}] = {access.format(part='xyzw'[i // 2], half='xy'[i % 2])};" for i in range(8)
    )
    body = f"{vector} v = make_{vector}({lanes}); {reads}"
    return f'{HEADERS}extern "C" __global__ void f({lane}* x, {lane}* y) {{ {body} }}'


def compiled(code: str) -> bytes:
    from tvm.support.nvcc import compile_cuda

    load_tvm()
    return bytes(compile_cuda(code, target_format="cubin", arch="sm_90", compiler="nvrtc"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v[0]}-{v[1]}")
def test_wide_vectors_are_constructed(vector: tuple[str, str, str]) -> None:
    load_tvm()
    code = kernel(*vector)
    with pytest.raises(RuntimeError, match="too many arguments"):
        compiled(code)
    assert compiled(mended(code))


def test_other_text_is_left_alone() -> None:
    plain = f'{HEADERS}extern "C" __global__ void f(int* x) {{ x[0] = 1; }}'
    assert mended(plain) == plain
    assert mended("make_longlong4(1)") == "make_longlong4(1)"


def test_all_text_that_a_process_generates_is_mended(tmp_path: Any) -> None:
    tvm = load_tvm()
    callback = tvm.get_global_func("tvm_callback_cuda_postproc")
    code = kernel(*VECTORS[0])
    assert str(callback(code, tvm.target.Target("llvm"))) == mended(code) != code
