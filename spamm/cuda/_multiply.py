"""The multiply kernel's CUDA C++ text, put together from a configuration.

``spamm_multiply`` computes C from A and B and a plan's lists: for each tile of C it walks the
tile's k-blocks (`_multiply_list`), brings tiles of A and B to shared memory some stages ahead
(`_multiply_stage`), multiplies them (`_multiply_tensor`, `_multiply_cores`) and stores the sums.
The algorithm is SpAMM's (arXiv 2103.13042).

Arguments of the kernel: A, B, C row-major with leading dimensions in elements; ``offsets`` and
``ks`` of the plan; ``order``, the numbers of C's tiles in the order in which to process them, or
null; ``tiles``, how many; ``next``, one int that is 0 when a persistent kernel is launched, unused
otherwise. m, k and n are below 2^30. A kernel that is not persistent has a grid of
tiles * split_k thread blocks, a persistent one any number.
"""

from __future__ import annotations

import numpy as np

from spamm.cuda._config import WORK_LIST, MultiplyConfig
from spamm.cuda._launch import Buffer, Launch, Program
from spamm.cuda._multiply_cores import CORES
from spamm.cuda._multiply_list import ONE_BLOCK, UNION
from spamm.cuda._multiply_stage import STAGE
from spamm.cuda._multiply_tensor import tensor_text
from spamm.cuda._primitives import PRIMITIVES

KERNEL_NAME = "spamm_multiply"
INPUTS = ("a", "b", "c", "offsets", "ks", "order")
"""Names of a program's arrays; A, B and C may be parts of wider matrices."""
SIZE_LIMIT = 2**30
"""m, k and n are below it."""

_TYPE = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float"}
_HEADER = {"float16": "cuda_fp16.h", "bfloat16": "cuda_bf16.h"}
_ROUND = {"float16": "__float2half_rn(x)", "bfloat16": "__float2bfloat16_rn(x)", "float32": "x"}
_PIECE = {2: "unsigned short", 4: "unsigned", 8: "uint2", 16: "uint4"}

_DERIVED = """\
constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int WARP_M = TILE_M / WARPS_M, WARP_N = TILE_N / WARPS_N;
constexpr int PACK = 16 / (int)sizeof(Element);  // elements of a chunk
// Blocks of C in a tile.
constexpr int BLOCKS_M = TILE_M > BLOCK_M ? TILE_M / BLOCK_M : 1;
constexpr int BLOCKS_N = TILE_N > BLOCK_N ? TILE_N / BLOCK_N : 1;
constexpr int BLOCKS = BLOCKS_M * BLOCKS_N;
// k-blocks in a stage, and stages in a k-block: one of the two is 1.
constexpr int SLOTS = TILE_K > BLOCK_K ? TILE_K / BLOCK_K : 1;
constexpr int STEPS = BLOCK_K > TILE_K ? BLOCK_K / TILE_K : 1;
constexpr int PAST = 1 << 30;  // more than any k
"""

_STORE = """\
struct Target {
  Output* C;
  long long ldc;
  int m, n;
};

template <int BYTES> struct Word;
template <> struct Word<4> { typedef unsigned Type; };
template <> struct Word<8> { typedef uint2 Type; };
template <> struct Word<16> { typedef uint4 Type; };

// Whether a warp's tile lies inside C, its rows aligned to 16 bytes: asked once for all stores.
__device__ __forceinline__ bool is_whole(const Target& target, int row0, int col0) {
  const unsigned long long address = (unsigned long long)target.C;
  return row0 + WARP_M <= target.m && col0 + WARP_N <= target.n &&
         (address | (unsigned long long)target.ldc * sizeof(Output)) % 16 == 0;
}

// Stores neighbouring elements of a row.
template <bool WHOLE, int N>
__device__ __forceinline__ void store_run(
    const Target& target, int row, int col, const float (&values)[N]) {
  if (!WHOLE && row >= target.m) return;
  Output* to = target.C + row * target.ldc + col;
#if SPAMM_SPLIT > 1
#pragma unroll
  for (int e = 0; e < N; ++e)
    if (WHOLE || col + e < target.n) atomicAdd(to + e, values[e]);
#else
  Output run[N];
#pragma unroll
  for (int e = 0; e < N; ++e) run[e] = rounded(values[e]);
  if (WHOLE) {
    typedef typename Word<N * sizeof(Output)>::Type Whole;
    Whole whole;
    memcpy(&whole, run, sizeof(Whole));
    *(Whole*)to = whole;
  } else {
#pragma unroll
    for (int e = 0; e < N; ++e)
      if (col + e < target.n) to[e] = run[e];
  }
#endif
}
"""

_KERNEL = """\
// Left to itself the compiler puts what narrow loads need into memory, for the sake of more thread
// blocks a multiprocessor.
#if SPAMM_LOAD_BYTES == 16
#define SPAMM_BOUNDS THREADS
#else
#define SPAMM_BOUNDS THREADS, 1
#endif
__device__ __forceinline__ void multiply_tile(
    unsigned char* stages, WorkList& list, const Matrices& x, const Target& target,
    const long long* offsets, const int* ks, int row0, int col0, int part) {
  const int warp = threadIdx.x / 32;
  const int warp_row = warp / WARPS_N * WARP_M, warp_col = warp % WARPS_N * WARP_N;
  const int blocks_m = (x.m + BLOCK_M - 1) / BLOCK_M, blocks_n = (x.n + BLOCK_N - 1) / BLOCK_N;
  const int blocks_k = (x.k + BLOCK_K - 1) / BLOCK_K;
  Sums sums;
  clear(sums);
  Walk walk = open_list(list, offsets, row0, col0, blocks_m, blocks_n, part);
  while (const int count = next_entries(list, walk, ks, blocks_k, part)) {
    const int steps = (count + SLOTS - 1) / SLOTS * STEPS;
    multiply_steps(sums, stages, x, row0, col0, list, steps, warp_row, warp_col);
  }
  const int row = row0 + warp_row, col = col0 + warp_col;
  if (is_whole(target, row, col))
    store<true>(sums, target, row, col);
  else
    store<false>(sums, target, row, col);
}

extern "C" __global__ void __launch_bounds__(SPAMM_BOUNDS) spamm_multiply(
    const Element* A, const Element* B, Output* C, int m, int k, int n, long long lda,
    long long ldb, long long ldc, const long long* offsets, const int* ks, const int* order,
    int tiles, int* next) {
  extern __shared__ __align__(128) unsigned char smem[];
  __shared__ WorkList list;
  const Matrices x = {A, B, lda, ldb, m, k, n};
  const Target target = {C, ldc, m, n};
  const int tiles_n = (n + TILE_N - 1) / TILE_N;
#if SPAMM_PERSISTENT
  __shared__ int following;
  int item = blockIdx.x;
  while (item < tiles * SPLIT) {
    // asked for now, needed after this tile
    int reply = 0;
    if (threadIdx.x == 0) reply = gridDim.x + atomicAdd(next, 1);
#else
  const int item = blockIdx.x;
  {
#endif
    const int tile = order ? order[item / SPLIT] : item / SPLIT;
    multiply_tile(smem, list, x, target, offsets, ks, tile / tiles_n * TILE_M,
                  tile % tiles_n * TILE_N, item % SPLIT);
#if SPAMM_PERSISTENT
    if (threadIdx.x == 0) following = reply;
    __syncthreads();
    item = following;
    __syncthreads();
#endif
  }
}
"""


def _constants(config: MultiplyConfig) -> str:
    pad_a, pad_b = config.row_padding
    values = {
        "BLOCK_M": config.block[0],
        "BLOCK_K": config.block[1],
        "BLOCK_N": config.block[2],
        "TILE_M": config.tile[0],
        "TILE_N": config.tile[1],
        "TILE_K": config.tile[2],
        "WARPS_M": config.warps[0],
        "WARPS_N": config.warps[1],
        "STAGES": config.stages,
        "SPLIT": config.split_k,
        "LIST": WORK_LIST,
        "PADDING_A": pad_a,
        "PADDING_B": pad_b,
    }
    lines = [
        f"#define SPAMM_LOAD_BYTES {config.vector}",
        f"#define SPAMM_SPLIT {config.split_k}",
        f"#define SPAMM_PERSISTENT {int(config.persistent)}",
        f"typedef {_TYPE[config.dtype]} Element;",
        f"typedef {_TYPE[config.out]} Output;",
        f"typedef {_PIECE[config.vector]} Piece;",
        f"constexpr bool SWIZZLE = {str(config.swizzle).lower()};",
        *(f"constexpr int {name} = {value};" for name, value in values.items()),
        "",
    ]
    return "\n".join(lines)


def multiply_source(config: MultiplyConfig) -> str:
    """The text of ``spamm_multiply`` for a configuration that `MultiplyConfig.validate` accepts.

    The variants of a configuration for other alignments are configurations too
    (`MultiplyConfig.for_alignment`): the host picks by the pointers at hand.
    """
    include = _HEADER.get(config.dtype)
    header = f"#include <{include}>\n" if include else ""
    rounded = (
        f"__device__ __forceinline__ Output rounded(float x) {{ return {_ROUND[config.out]}; }}\n"
    )
    return "\n".join(
        [
            f"// {config.name}",
            header,
            PRIMITIVES,
            _constants(config),
            _DERIVED,
            rounded,
            _STORE,
            ONE_BLOCK if config.blocks_in_tile == 1 else UNION,
            STAGE,
            CORES if config.unit == "cores" else tensor_text(config.dtype),
            _KERNEL,
        ]
    )


def multiply_program(
    config: MultiplyConfig,
    shape: tuple[int, int, int],
    leading: tuple[int, int, int],
    thread_blocks: int,
    *,
    ordered: bool = True,
) -> Program:
    """What to launch for C (m x n) = A (m x k) B (k x n).

    Parameters
    ----------
    config
        As `multiply_source`. With ``split_k`` above 1 the caller sets C to zero before.
    shape
        (m, k, n).
    leading
        Leading dimensions of A, B and C, in elements.
    thread_blocks
        How many the GPU can hold at a time: the grid of a persistent kernel, at most.
    ordered
        Whether ``order`` is given; tiles are taken by number otherwise.

    Returns
    -------
    Program
        `INPUTS` are its inputs, without ``order`` unless `ordered`. Nothing is launched for a C
        without elements.

    Raises
    ------
    ValueError
        A size is negative or not below `SIZE_LIMIT`, or a leading dimension is less than a row.
    """
    m, k, n = shape
    if not all(0 <= size < SIZE_LIMIT for size in shape):
        raise ValueError(f"shape: expected sizes from 0 to {SIZE_LIMIT - 1}, got {shape}")
    if any(stride < row for stride, row in zip(leading, (k, n, n), strict=True)):
        raise ValueError(f"leading: expected at least {(k, n, n)}, got {leading}")
    if thread_blocks < 1:
        raise ValueError(f"thread_blocks: expected 1 or more, got {thread_blocks}")
    along_m, along_n = config.grid_tiles(m, n)
    work = along_m * along_n * config.split_k
    if work >= SIZE_LIMIT:
        raise ValueError(f"shape: {work} tiles of C to compute, expected less than {SIZE_LIMIT}")
    args = (
        *INPUTS[:3],
        *(np.int32(size) for size in shape),
        *(np.int64(stride) for stride in leading),
        *INPUTS[3:5],
        "order" if ordered else None,
        np.int32(along_m * along_n),
        "next" if config.persistent else None,
    )
    grid = min(thread_blocks, work) if config.persistent else work
    launch = Launch(KERNEL_NAME, (grid, 1, 1), (config.threads, 1, 1), args, config.shared_bytes)
    return Program(
        multiply_source(config),
        INPUTS if ordered else INPUTS[:5],
        (Buffer("next", np.dtype(np.int32), 1, zeroed=True),) if config.persistent else (),
        (launch,) if work else (),
    )
