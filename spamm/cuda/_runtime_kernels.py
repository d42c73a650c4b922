"""Kernels beside norms, planning and products: copies between layouts, and probes of ||A B||_F."""

from __future__ import annotations

import functools

import numpy as np

from spamm._guarantee import PROBES
from spamm.cuda._interop import View
from spamm.cuda._launch import Launch

_TYPE = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}
_WIDE = {
    "float16": "__half2float(x)",
    "bfloat16": "__bfloat162float(x)",
    "float32": "(x)",
    "float64": "(float)(x)",
}
_NARROW = {
    "float16": "__float2half_rn(x)",
    "bfloat16": "__float2bfloat16_rn(x)",
    "float32": "(x)",
    "float64": "(double)(x)",
}
_INCLUDE = {"float16": "#include <cuda_fp16.h>\n", "bfloat16": "#include <cuda_bf16.h>\n"}
_BITS = {
    "float16": "unsigned short",
    "bfloat16": "unsigned short",
    "float32": "unsigned",
    "float64": "unsigned long long",
}
_SIDE = 32
_THREADS = (_SIDE, 8, 1)
_PROBE_WARPS = 8

# `first` elements, which negative steps leave behind others, count from the lowest address. Lanes
# walk whichever step of each matrix is the shorter one, on either side of a tile
_COPY = """\
constexpr int SIDE = 32;
extern "C" __global__ void __launch_bounds__(256) spamm_copy(
    const Source* from, long long from_first, long long from_row, long long from_col, Target* to,
    long long to_first, long long to_row, long long to_col, int rows, int cols) {
  __shared__ Between tile[SIDE][SIDE + 1];
  const int across = (cols + SIDE - 1) / SIDE;
  const int row0 = (int)(blockIdx.x / across) * SIDE, col0 = (int)(blockIdx.x % across) * SIDE;
  // of steps of either sign
  const bool down_first = from_row * from_row < from_col * from_col;
  for (int y = threadIdx.y; y < SIDE; y += 8) {
    const int i = down_first ? (int)threadIdx.x : y, j = down_first ? y : (int)threadIdx.x;
    if (row0 + i < rows && col0 + j < cols)
      tile[i][j] = taken(from[from_first + (row0 + i) * from_row + (col0 + j) * from_col]);
  }
  __syncthreads();
  const bool down_last = to_row * to_row < to_col * to_col;
  for (int y = threadIdx.y; y < SIDE; y += 8) {
    const int i = down_last ? (int)threadIdx.x : y, j = down_last ? y : (int)threadIdx.x;
    if (row0 + i < rows && col0 + j < cols)
      to[to_first + (row0 + i) * to_row + (col0 + j) * to_col] = given(tile[i][j]);
  }
}
"""

_SAME = """\
__device__ __forceinline__ Between taken(Source x) { return x; }
__device__ __forceinline__ Target given(Between x) { return x; }
"""

# A warp for each row; `x` is (cols, PROBES), `y` (rows, PROBES)
_PROBE = """\
extern "C" __global__ void __launch_bounds__(32 * WARPS) spamm_probe(
    const Element* matrix, long long leading, const float* x, float* y, int rows, int cols) {
  const int lane = threadIdx.x % 32;
  const int row = blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= rows) return;
  float sums[PROBES];
  for (int p = 0; p < PROBES; ++p) sums[p] = 0.0f;
  const Element* from = matrix + row * leading;
  for (int j = lane; j < cols; j += 32) {
    const float value = wide(from[j]);
#pragma unroll
    for (int p = 0; p < PROBES; ++p) sums[p] += value * x[(long long)j * PROBES + p];
  }
#pragma unroll
  for (int p = 0; p < PROBES; ++p) {
    for (int step = 16; step > 0; step /= 2) sums[p] += __shfl_xor_sync(~0u, sums[p], step);
    if (lane == 0) y[(long long)row * PROBES + p] = sums[p];
  }
}
"""


@functools.cache
def copy_source(source: str, target: str) -> str:
    """CUDA C++ text of ``spamm_copy`` between two types; bits are kept where they are the same."""
    if source == target:
        return f"typedef {_BITS[source]} Source, Target, Between;\n" + _SAME + _COPY
    include = "".join(sorted({_INCLUDE.get(source, ""), _INCLUDE.get(target, "")}))
    head = (
        f"{include}typedef {_TYPE[source]} Source;\ntypedef {_TYPE[target]} Target;\n"
        "typedef float Between;\n"
        f"__device__ __forceinline__ float taken(Source x) {{ return {_WIDE[source]}; }}\n"
        f"__device__ __forceinline__ Target given(float x) {{ return {_NARROW[target]}; }}\n"
    )
    return head + _COPY


def copy_launch(source: View, target: View) -> Launch:
    """The launch that copies a matrix to another of its shape; arguments ``from`` and ``to``."""
    rows, cols = source.shape
    tiles = -(-rows // _SIDE) * -(-cols // _SIDE)
    args = (
        "from",
        *(np.int64(value) for value in (source.first, *source.strides)),
        "to",
        *(np.int64(value) for value in (target.first, *target.strides)),
        np.int32(rows),
        np.int32(cols),
    )
    return Launch("spamm_copy", (tiles, 1, 1), _THREADS, args)


@functools.cache
def probe_source(dtype: str) -> str:
    """CUDA C++ text of ``spamm_probe``, a row-major matrix times `PROBES` float32 vectors."""
    head = (
        f"{_INCLUDE.get(dtype, '')}typedef {_TYPE[dtype]} Element;\n"
        f"constexpr int PROBES = {PROBES}, WARPS = {_PROBE_WARPS};\n"
        f"__device__ __forceinline__ float wide(Element x) {{ return {_WIDE[dtype]}; }}\n"
    )
    return head + _PROBE


def probe_launch(matrix: View) -> Launch:
    """The launch of ``spamm_probe`` on ``matrix``, ``x`` and ``y``."""
    rows, cols = matrix.shape
    args = ("matrix", np.int64(matrix.leading), "x", "y", np.int32(rows), np.int32(cols))
    return Launch("spamm_probe", (-(-rows // _PROBE_WARPS), 1, 1), (32 * _PROBE_WARPS, 1, 1), args)
