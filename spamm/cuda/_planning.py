"""Plans made on a GPU: from block norms and tau to the lists that the multiply kernel walks.

Four kernels, without a wait of the host between them. ``spamm_plan_count`` decides about every
product, keeps a bit for each, and adds up what is skipped; ``spamm_plan_compact`` turns the bits
into offsets and ascending lists; ``spamm_plan_order`` sorts C's tiles, heaviest first. Memory is
one bit a product, and 4 bytes for each that is kept.

The algorithm is SpAMM's (arXiv 2103.13042), the bound on the error that of arXiv 2005.10680. Given
the same norms and the same tau, in float32, the lists are those of `spamm._plan.build_plan`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spamm.cuda._launch import Buffer, Launch, Program
from spamm.cuda._sweep import SWEEP, THREADS, checked_grid, rows_per_thread, sweep_blocks

_COMPACT_THREADS = 256
_ORDER_THREADS = 1024

_COUNT = """\
__device__ __forceinline__ void decide(const float* const (&a)[ROWS], float b, int k0, int bit,
                                       float least, unsigned (&word)[ROWS], float (&part)[ROWS]) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const float norm = a[r][k0 + bit];
    // false also for NaN, infinity times zero
    if (__fmul_rd(norm, b) < least)
      part[r] = __fmaf_ru(norm, b, part[r]);
    else
      word[r] |= 1u << bit;
  }
}

// Decides about every product: bits (mb, nb, words) and the counts of them; the kept products of
// each row; and, for each thread block, the sum of squares of its cells' skipped products.
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS, 2) spamm_plan_count(
    const float* norms_a, const float* norms_b, const float* tau, int mb, int kb, int nb,
    unsigned* bits, int* counts, unsigned long long* row_work, double* error_parts) {
  __shared__ int kept[SLICES][ROWS][32];
  __shared__ double skipped[SLICES][ROWS][32];
  __shared__ double squares_of[ROWS];
  const int lane = threadIdx.x, slice = threadIdx.y, words = (kb + 31) / 32;
  const int columns = (nb + 31) / 32, units = (mb + ROWS - 1) / ROWS * columns;
  const float least = *tau;
  double squares = 0.0;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int j = unit % columns * 32 + lane, first = unit / columns * ROWS;
    int count[ROWS];
    double sum[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      count[r] = 0;
      sum[r] = 0.0;
    }
    // threads beyond the grid repeat the last cell, and are left out of what is stored
    const float* b = norms_b + min(j, nb - 1);
    const float* a[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) a[r] = norms_a + (long long)min(first + r, mb - 1) * kb;
    for (int w = slice; w < words; w += SLICES) {
      unsigned word[ROWS];
      float part[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        word[r] = 0u;
        part[r] = 0.0f;
      }
      const float* down = b + (long long)32 * w * nb;
      if (32 * w + 32 <= kb) {
#pragma unroll 8
        for (int bit = 0; bit < 32; ++bit)
          decide(a, down[(long long)bit * nb], 32 * w, bit, least, word, part);
      } else {
#pragma unroll 1
        for (int bit = 0; bit < kb - 32 * w; ++bit)
          decide(a, down[(long long)bit * nb], 32 * w, bit, least, word, part);
      }
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        if (j < nb && first + r < mb)
          bits[((long long)(first + r) * nb + j) * words + w] = word[r];
        count[r] += __popc(word[r]);
        sum[r] = __dadd_ru(sum[r], (double)part[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      kept[slice][r][lane] = count[r];
      skipped[slice][r][lane] = sum[r];
    }
    __syncthreads();
    if (slice < ROWS) {
      int row_count = 0;
      double cell = 0.0;
      for (int s = 0; s < SLICES; ++s) {
        row_count += kept[s][slice][lane];
        cell = __dadd_ru(cell, skipped[s][slice][lane]);
      }
      const int i = first + slice;
      if (i < mb && j < nb) {
        counts[(long long)i * nb + j] = row_count;
        squares = __fma_ru(cell, cell, squares);
      } else {
        row_count = 0;
      }
      for (int step = 16; step > 0; step /= 2)
        row_count += __shfl_xor_sync(EVERY_LANE, row_count, step);
      if (lane == 0 && i < mb) atomicAdd(&row_work[i], (unsigned long long)row_count);
    }
    __syncthreads();
  }
  squares = sum_up_of_warp(squares);
  if (slice < ROWS && lane == 0) squares_of[slice] = squares;
  __syncthreads();
  if (slice == 0 && lane == 0) {
    for (int r = 1; r < ROWS; ++r) squares = __dadd_ru(squares, squares_of[r]);
    error_parts[blockIdx.x] = squares;
  }
}
"""

_COMPACT = """\
// A thread block for each row of C's blocks: offsets and lists from counts and bits. What would lie
// beyond `capacity` is left out, which the last offset tells. The first one also adds up the error.
extern "C" __global__ void __launch_bounds__(COMPACT_THREADS) spamm_plan_compact(
    const unsigned* bits, const int* counts, const unsigned long long* row_work,
    const double* error_parts, int parts, int mb, int kb, int nb, long long capacity,
    long long* offsets, int* ks, double* error_bound) {
  constexpr int WARPS = COMPACT_THREADS / 32;
  __shared__ long long starts[COMPACT_THREADS];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int i = blockIdx.x, words = (kb + 31) / 32;
  long long own = 0, next;
  for (int row = thread; row < i; row += COMPACT_THREADS) own += (long long)row_work[row];
  sum_before<WARPS>(thread, own, next);
  for (int j0 = 0; j0 < nb; j0 += COMPACT_THREADS) {
    const int j = j0 + thread;
    long long total;
    starts[thread] =
        next + sum_before<WARPS>(thread, j < nb ? counts[(long long)i * nb + j] : 0, total);
    if (j < nb) offsets[(long long)i * nb + j] = starts[thread];
    next += total;
    __syncthreads();
    for (int cell = warp; cell < min(COMPACT_THREADS, nb - j0); cell += WARPS) {
      const unsigned* list = bits + ((long long)i * nb + j0 + cell) * words;
      long long to = starts[cell];
      for (int w0 = 0; w0 < words; w0 += 32) {
        const unsigned own_word = w0 + lane < words ? list[w0 + lane] : 0u;
        unsigned left = __ballot_sync(EVERY_LANE, own_word != 0u);
        while (left) {
          const int w = __ffs((int)left) - 1;
          left &= left - 1u;
          const unsigned word = __shfl_sync(EVERY_LANE, own_word, w);
          const long long place = to + __popc(word & ((1u << lane) - 1u));
          if (word >> lane & 1u && place < capacity) ks[place] = 32 * (w0 + w) + lane;
          to += __popc(word);
        }
      }
    }
    // the sum of the next round waits for all before `starts` is written again
  }
  if (i == mb - 1 && thread == 0) offsets[(long long)mb * nb] = next;
  if (i == 0 && warp == 0) {
    double squares = 0.0;
    for (int part = lane; part < parts; part += 32)
      squares = __dadd_ru(squares, error_parts[part]);
    squares = sum_up_of_warp(squares);
    if (lane == 0) *error_bound = __dsqrt_ru(squares);
  }
}
"""

_ORDER = """\
// Tiles by work, heaviest first, in steps of half a power of two; equals in no certain order.
__device__ __forceinline__ int bucket_of(long long work) {
  if (work <= 1) return 63;
  const int exponent = 63 - __clzll(work);
  return max(0, 63 - 2 * exponent - (int)(work >> (exponent - 1) & 1));
}

// Kept products of the blocks of C that a tile holds, or is a part of.
__device__ __forceinline__ long long work_of(const int* counts, int mb, int nb, int tiles_n,
                                             int tile) {
  const int i0 = tile / tiles_n / TILES_M * BLOCKS_M, j0 = tile % tiles_n / TILES_N * BLOCKS_N;
  long long work = 0;
  for (int i = i0; i < min(mb, i0 + BLOCKS_M); ++i)
    for (int j = j0; j < min(nb, j0 + BLOCKS_N); ++j) work += counts[(long long)i * nb + j];
  return work;
}

extern "C" __global__ void __launch_bounds__(ORDER_THREADS) spamm_plan_order(
    const int* counts, int mb, int nb, int tiles_n, int tiles, int* order) {
  __shared__ int cursors[64];
  const int thread = threadIdx.x, lane = thread % 32;
  if (thread < 64) cursors[thread] = 0;
  __syncthreads();
  for (int pass = 0; pass < 2; ++pass) {
    for (int t0 = 0; t0 < tiles; t0 += ORDER_THREADS) {
      const int tile = t0 + thread;
      const bool there = tile < tiles;
      const int bucket = there ? bucket_of(work_of(counts, mb, nb, tiles_n, tile)) : 64;
      // lanes of the same bucket take their places at once, in the order of their tiles
      unsigned left = __ballot_sync(EVERY_LANE, there);
      while (left) {
        const int leader = __ffs((int)left) - 1;
        const int common = __shfl_sync(EVERY_LANE, bucket, leader);
        const unsigned same = __ballot_sync(EVERY_LANE, bucket == common);
        int place = 0;
        if (lane == leader) place = atomicAdd(&cursors[common], __popc(same));
        place = __shfl_sync(EVERY_LANE, place, leader) + __popc(same & ((1u << lane) - 1u));
        if (pass == 1 && bucket == common) order[place] = tile;
        left &= ~same;
      }
    }
    __syncthreads();
    if (pass == 0 && thread == 0) {
      int before = 0;
      for (int bucket = 0; bucket < 64; ++bucket) {
        const int count = cursors[bucket];
        cursors[bucket] = before;
        before += count;
      }
    }
    __syncthreads();
  }
}
"""


@dataclass(frozen=True)
class Tiling:
    """How the multiply kernel cuts C, in blocks of C: what `order` counts.

    Attributes
    ----------
    blocks
        Blocks of C in a tile, along m and n; 1 where a tile is no larger than a block.
    tiles
        Tiles in a block of C, along m and n; 1 where a tile is no smaller than a block.
    grid
        Numbers of tiles along m and n; None for as many as cover whole blocks.
    """

    blocks: tuple[int, int] = (1, 1)
    tiles: tuple[int, int] = (1, 1)
    grid: tuple[int, int] | None = None

    @classmethod
    def of(cls, block: tuple[int, int], tile: tuple[int, int], shape: tuple[int, int]) -> Tiling:
        """The tiling for blocks and tiles of C (m x n); one of each pair divides the other.

        Raises
        ------
        ValueError
            A tile's size is neither a multiple nor a divisor of a block's.
        """
        for size, wide in zip(block, tile, strict=True):
            if size % wide and wide % size:
                raise ValueError(f"tile: {tile} and block {block} do not divide one another")
        return cls(
            (max(1, tile[0] // block[0]), max(1, tile[1] // block[1])),
            (max(1, block[0] // tile[0]), max(1, block[1] // tile[1])),
            (-(-shape[0] // tile[0]), -(-shape[1] // tile[1])),
        )

    def grid_of(self, mb: int, nb: int) -> tuple[int, int]:
        """Numbers of tiles along m and n for a grid of mb x nb blocks of C."""
        if self.grid is not None:
            return self.grid
        down, across = (
            -(-size // blocks) * tiles
            for size, blocks, tiles in zip((mb, nb), self.blocks, self.tiles, strict=True)
        )
        return down, across


def planning_source(rows: int, tiling: Tiling) -> str:
    """CUDA C++ text of the planning kernels; rows: what `rows_per_thread` says."""
    head = [
        f"constexpr int ROWS = {rows};",
        f"constexpr int COMPACT_THREADS = {_COMPACT_THREADS}, ORDER_THREADS = {_ORDER_THREADS};",
        f"constexpr int BLOCKS_M = {tiling.blocks[0]}, BLOCKS_N = {tiling.blocks[1]};",
        f"constexpr int TILES_M = {tiling.tiles[0]}, TILES_N = {tiling.tiles[1]};",
        "",
    ]
    return "\n".join([*head, SWEEP, _COUNT, _COMPACT, _ORDER])


def planning_program(
    grid: tuple[int, int, int],
    tiling: Tiling,
    capacity: int,
) -> Program:
    """From block norms and tau to a plan's lists, on one stream.

    Inputs are ``norms_a`` (mb, kb) and ``norms_b`` (kb, nb), float32 and +inf for blocks that must
    not be skipped, and ``tau``, one float32 (see `spamm.cuda._sweep.float32_below`). Results are
    ``offsets`` (int64, mb * nb + 1), ``ks`` (int32), ``counts`` (int32, mb * nb), ``row_work``
    (uint64, mb: kept products of each row of C's blocks), ``error_bound`` (float64, 1: ||E||_F,
    rounded up; what the norms themselves lack is not in it) and ``order`` (int32: C's tiles,
    heaviest first).

    Parameters
    ----------
    grid
        Numbers of blocks (mb, kb, nb), each at least 1.
    tiling
        C's tiles.
    capacity
        Length of ``ks``. Where a plan keeps more, its last offset says so and ``ks`` is incomplete:
        allocate that much and run `compact_launch` once more. The whole grid's products always are
        enough; for large grids a plan before this one, or the rank a search was made for, tells
        about how many will be.

    Raises
    ------
    ValueError
        As `spamm.cuda._sweep.checked_grid`.
    """
    mb, kb, nb = checked_grid(grid)
    rows = rows_per_thread(mb, nb)
    blocks = sweep_blocks(mb, nb, rows)
    tiles_m, tiles_n = tiling.grid_of(mb, nb)
    int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
    uint64, float64 = np.dtype(np.uint64), np.dtype(np.float64)
    sizes = (np.int32(mb), np.int32(kb), np.int32(nb))
    norms = ("norms_a", "norms_b", "tau")
    return Program(
        source=planning_source(rows, tiling),
        inputs=norms,
        buffers=(
            Buffer("bits", np.dtype(np.uint32), mb * nb * -(-kb // 32)),
            Buffer("counts", int32, mb * nb),
            Buffer("row_work", uint64, mb, zeroed=True),
            Buffer("error_parts", float64, blocks),
            Buffer("offsets", int64, mb * nb + 1),
            Buffer("ks", int32, capacity),
            Buffer("error_bound", float64, 1),
            Buffer("order", int32, tiles_m * tiles_n),
        ),
        launches=(
            Launch(
                "spamm_plan_count",
                (blocks, 1, 1),
                THREADS,
                (*norms, *sizes, "bits", "counts", "row_work", "error_parts"),
            ),
            compact_launch(grid, capacity),
            Launch(
                "spamm_plan_order",
                (1, 1, 1),
                (_ORDER_THREADS, 1, 1),
                (
                    "counts",
                    np.int32(mb),
                    np.int32(nb),
                    np.int32(tiles_n),
                    np.int32(tiles_m * tiles_n),
                    "order",
                ),
            ),
        ),
    )


def compact_launch(grid: tuple[int, int, int], capacity: int) -> Launch:
    """The launch that writes ``offsets``, ``ks`` (of `capacity` elements) and ``error_bound``."""
    mb, kb, nb = grid
    return Launch(
        "spamm_plan_compact",
        (mb, 1, 1),
        (_COMPACT_THREADS, 1, 1),
        (
            "bits",
            "counts",
            "row_work",
            "error_parts",
            np.int32(sweep_blocks(mb, nb, rows_per_thread(mb, nb))),
            np.int32(mb),
            np.int32(kb),
            np.int32(nb),
            np.int64(capacity),
            "offsets",
            "ks",
            "error_bound",
        ),
    )
