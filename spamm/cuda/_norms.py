"""Frobenius norms of a matrix's blocks on a GPU, in one pass over the matrix.

Squares are added in double precision and every step rounds up, so a norm is never below the exact
one, and at most 2^-20 of it above: what a plan's bound is made from stays a bound. Neither overflow
nor underflow of squares can make a norm wrong: double precision holds the square of every float32,
and of float64 only numbers beyond float32 are affected, whose norms are infinite or the smallest
float32 either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spamm.cuda._launch import Launch

KERNEL_NAME = "spamm_norms"

_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_TYPE = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}
_EXPAND = {
    "float16": "__half2float(x)",
    "bfloat16": "__bfloat162float(x)",
    "float32": "(x)",
    "float64": "(x)",
}
_INCLUDE = {"float16": "#include <cuda_fp16.h>", "bfloat16": "#include <cuda_bf16.h>"}
_LOAD_BYTES = 16
_WARPS = 8
# What a warp reads of a block before another one shares the work: enough loads in flight for a
# GPU's bandwidth also where a matrix has few blocks
_WARP_BYTES = 8192
_LARGEST_BLOCK = 1024

# The squares of a word's elements are added to `sums`, up. A float16's square is exact in float,
# and so small that eight of them are added there before the sum goes on in double.
_ADD_WORD = {
    "float32": """\
__device__ __forceinline__ void add(uint4 piece, double (&sums)[4]) {
  add((double)__uint_as_float(piece.x), sums[0]);
  add((double)__uint_as_float(piece.y), sums[1]);
  add((double)__uint_as_float(piece.z), sums[2]);
  add((double)__uint_as_float(piece.w), sums[3]);
}
""",
    "float64": """\
__device__ __forceinline__ double join(unsigned low, unsigned high) {
  return __longlong_as_double((long long)((unsigned long long)high << 32 | low));
}
__device__ __forceinline__ void add(uint4 piece, double (&sums)[4]) {
  add(join(piece.x, piece.y), sums[0]);
  add(join(piece.z, piece.w), sums[1]);
}
""",
    "bfloat16": """\
__device__ __forceinline__ void add_pair(unsigned pair, double& sum) {
  add((double)__uint_as_float(pair << 16), sum);
  add((double)__uint_as_float(pair & 0xffff0000u), sum);
}
__device__ __forceinline__ void add(uint4 piece, double (&sums)[4]) {
  add_pair(piece.x, sums[0]);
  add_pair(piece.y, sums[1]);
  add_pair(piece.z, sums[2]);
  add_pair(piece.w, sums[3]);
}
""",
    "float16": """\
__device__ __forceinline__ void add_pair(unsigned pair, float& sum) {
  const float low = __half2float(__ushort_as_half((unsigned short)pair));
  const float high = __half2float(__ushort_as_half((unsigned short)(pair >> 16)));
  sum = __fmaf_ru(high, high, __fmaf_ru(low, low, sum));
}
__device__ __forceinline__ void add(uint4 piece, double (&sums)[4]) {
  float even = 0.0f, odd = 0.0f;
  add_pair(piece.x, even);
  add_pair(piece.y, odd);
  add_pair(piece.z, even);
  add_pair(piece.w, odd);
  sums[0] = __dadd_ru(sums[0], (double)even);
  sums[1] = __dadd_ru(sums[1], (double)odd);
}
""",
}

_BODY = """\
// One warp, or SHARE of them, for each block of the matrix. `rows` and `cols` of it are there.
template <int ROWS, int COLS, int SHARE, bool ALIGNED>
__device__ __forceinline__ void norms_of(
    int thread_block, const Element* matrix, int m, int n, long long leading, float* norms,
    long long row_stride, long long col_stride) {
  // Chunks of a block that are loaded at once, and how many of them a lane loads before it adds.
  constexpr int ROW_CHUNKS = COLS * (int)sizeof(Element) / 16;
  constexpr int CHUNKS = ROWS * ROW_CHUNKS;
  constexpr int BATCH = 8;
  constexpr int STEP = 32 * SHARE;
  __shared__ double shares[WARPS];
  const int warp = threadIdx.x / 32, first = threadIdx.x % (32 * SHARE);
  const int across = (n + COLS - 1) / COLS, down = (m + ROWS - 1) / ROWS;
  const long long block = (long long)thread_block * (WARPS / SHARE) + warp / SHARE;
  const int i = (int)(block / across), j = (int)(block % across);
  double sums[4] = {0.0, 0.0, 0.0, 0.0};
  if (i < down) {
    const Element* corner = matrix + (long long)i * ROWS * leading + (long long)j * COLS;
    const int rows = min(ROWS, m - i * ROWS), cols = min(COLS, n - j * COLS);
    if (ALIGNED && rows == ROWS && cols == COLS) {
      for (int start = 0; start < CHUNKS; start += STEP * BATCH) {
        uint4 pieces[BATCH];
#pragma unroll
        for (int s = 0; s < BATCH; ++s) {
          const int chunk = start + first + s * STEP;
          pieces[s] = make_uint4(0u, 0u, 0u, 0u);
          if (chunk < CHUNKS)
            pieces[s] = reinterpret_cast<const uint4*>(
                corner + (long long)(chunk / ROW_CHUNKS) * leading)[chunk % ROW_CHUNKS];
        }
        // keeps the compiler from moving a load to where it is added: all are on their way at once
        __syncwarp();
#pragma unroll
        for (int s = 0; s < BATCH; ++s) add(pieces[s], sums);
      }
    } else {
      for (int t = first; t < ROWS * COLS; t += STEP) {
        const int row = t / COLS, col = t % COLS;
        if (row < rows && col < cols) add((double)(EXPAND(corner[row * leading + col])), sums[0]);
      }
    }
  }
  double sum = __dadd_ru(__dadd_ru(sums[0], sums[1]), __dadd_ru(sums[2], sums[3]));
  for (int lane = 16; lane > 0; lane /= 2)
    sum = __dadd_ru(sum, __shfl_xor_sync(0xffffffffu, sum, lane));
  if (threadIdx.x % 32 == 0) shares[warp] = sum;
  __syncthreads();
  if (first == 0 && i < down) {
    for (int s = 1; s < SHARE; ++s) sum = __dadd_ru(sum, shares[warp + s]);
    const float infinite = __uint_as_float(0x7f800000u);
    // false also for NaN
    const bool finite = sum < (double)infinite;
    norms[i * row_stride + j * col_stride] = finite ? __double2float_ru(__dsqrt_ru(sum)) : infinite;
  }
}
"""

_KERNEL = """\
extern "C" __global__ void __launch_bounds__(32 * WARPS) spamm_norms(
    {parameters}) {{
  int block = blockIdx.x;
  {body}
}}
"""
_PARAMETERS = (
    ("const Element*", "matrix"),
    ("int", "m"),
    ("int", "n"),
    ("long long", "leading"),
    ("float*", "norms"),
    ("long long", "row_stride"),
    ("long long", "col_stride"),
)


@dataclass(frozen=True)
class NormsConfig:
    """A norm kernel's parameters.

    Attributes
    ----------
    dtype
        ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``.
    rows, cols
        A block's size; blocks at the lower and right edge may be smaller.
    aligned
        The matrix's address and leading dimension, and a block's width, are multiples of 16 bytes.
    """

    dtype: str
    rows: int
    cols: int
    aligned: bool

    @classmethod
    def for_matrix(
        cls, dtype: str, rows: int, cols: int, address: int, leading: int
    ) -> NormsConfig:
        """The configuration for a matrix at an address, with a leading dimension in elements."""
        size = _ITEM_BYTES.get(dtype, 1)
        wide = all(value % _LOAD_BYTES == 0 for value in (address, leading * size, cols * size))
        return cls(dtype, rows, cols, wide)

    def validate(self) -> str | None:
        """Why this cannot be a kernel, or None if it can."""
        if self.dtype not in _ITEM_BYTES:
            return f"dtype {self.dtype} is none of {', '.join(_ITEM_BYTES)}"
        if not (1 <= self.rows <= _LARGEST_BLOCK and 1 <= self.cols <= _LARGEST_BLOCK):
            return f"block {self.rows} x {self.cols} is not between 1 and {_LARGEST_BLOCK} wide"
        if self.aligned and self.cols * _ITEM_BYTES[self.dtype] % _LOAD_BYTES:
            return f"rows of {self.cols} {self.dtype} are no multiple of {_LOAD_BYTES} bytes"
        return None

    @property
    def share(self) -> int:
        """Warps that share a block of the matrix: 1, 2, 4 or 8."""
        wanted = self.rows * self.cols * _ITEM_BYTES[self.dtype] // _WARP_BYTES
        return min(_WARPS, 1 << max(0, wanted.bit_length() - 1))


def norms_source(*configs: NormsConfig) -> str:
    """CUDA C++ text of ``spamm_norms`` for one matrix, or for several of one type in one launch.

    Raises
    ------
    ValueError
        A configuration cannot be a kernel; the message says why.
    """
    for config in configs:
        reason = config.validate()
        if reason is not None:
            raise ValueError(f"norms: {reason}")
    (dtype,) = {config.dtype for config in configs}
    head = [
        _INCLUDE.get(dtype, ""),
        f"typedef {_TYPE[dtype]} Element;",
        f"constexpr int WARPS = {_WARPS};",
        f"#define EXPAND(x) {_EXPAND[dtype]}",
        "__device__ __forceinline__ void add(double x, double& sum) { sum = __fma_ru(x, x, sum); }",
        "",
    ]
    return "\n".join(head) + _ADD_WORD[dtype] + _BODY + _kernel(configs)


def _kernel(configs: Sequence[NormsConfig]) -> str:
    """The kernel, whose thread blocks belong to the first matrix, then to the next."""
    parameters, statements = [], []
    for number, config in enumerate(configs):
        names = [f"{name}_{number}" for _, name in _PARAMETERS]
        parameters += [f"{kind} {name}_{number}" for kind, name in _PARAMETERS]
        shape = f"{config.rows}, {config.cols}, {config.share}, {str(config.aligned).lower()}"
        call = f"norms_of<{shape}>(block, {', '.join(names)});"
        if number + 1 < len(configs):
            parameters.append(f"int blocks_{number}")
            call = f"if (block < blocks_{number}) {{\n    {call}\n    return;\n  }}\n"
            call += f"  block -= blocks_{number};"
        statements.append(call)
    return _KERNEL.format(parameters=",\n    ".join(parameters), body="\n  ".join(statements))


def joined(first: Launch, second: Launch) -> Launch:
    """Two launches of ``spamm_norms`` as one, of the source for both configurations."""
    blocks = first.grid[0]
    args = (*first.args, np.int32(blocks), *second.args)
    return Launch(KERNEL_NAME, (blocks + second.grid[0], 1, 1), first.block, args)


def norms_launch(
    config: NormsConfig,
    shape: tuple[int, int],
    leading: int,
    matrix: str,
    norms: str,
    *,
    transposed: bool = False,
) -> Launch:
    """The launch that fills `norms` from a row-major matrix.

    Parameters
    ----------
    shape, leading
        (m, n), both at least 1, and elements between one row and the next.
    matrix, norms
        Names of the two arrays; norms are float32, of shape (ceil(m / rows), ceil(n / cols)).
    transposed
        Norms are written as the transpose of that: for a column-major matrix, which a row-major
        kernel sees transposed.
    """
    m, n = shape
    down, across = -(-m // config.rows), -(-n // config.cols)
    strides = (1, down) if transposed else (across, 1)
    blocks = -(-down * across * config.share // _WARPS)
    args = (
        matrix,
        np.int32(m),
        np.int32(n),
        np.int64(leading),
        norms,
        *(np.int64(stride) for stride in strides),
    )
    return Launch(KERNEL_NAME, (blocks, 1, 1), (32 * _WARPS, 1, 1), args)
