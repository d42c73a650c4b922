"""Plans made on a GPU: from block norms and tau to the lists that the multiply kernel walks.

Two kernels, without a wait of the host between them. ``spamm_plan_count`` decides about every
product, keeps a bit for each, and adds up what is skipped; ``spamm_plan_lists`` turns the bits into
offsets and ascending lists, and meanwhile sorts C's tiles, heaviest first. Memory is one bit a
product, and 4 bytes for each that is kept.

The algorithm is SpAMM's (arXiv 2103.13042), the bound on the error that of arXiv 2005.10680. Given
the same norms and the same tau, in float32, the lists are those of `spamm._plan.build_plan`.
"""

from __future__ import annotations

import numpy as np

from spamm.cuda._launch import Buffer, Launch, Program
from spamm.cuda._order import ORDER_THREADS, Tiling, order_text
from spamm.cuda._sweep import SWEEP, THREADS, checked_grid, rows_per_thread, sweep_blocks
from spamm.cuda._tau import RATIO, RatioPasses, ratio_passes

_WARPS = ORDER_THREADS // 32

_TAU_GIVEN = """\
#define TAU_PARAMETERS const float* tau
#define TAU *tau
"""

_TAU_OF_RATIO = """\
#define TAU_PARAMETERS                                                                      \\
  const unsigned long long *histogram, int histogram_bits, const long long *search_before,  \\
      double wanted, long long products, float *tau, long long *kept
#define TAU tau_of_ratio(histogram, histogram_bits, search_before, wanted, products, tau, kept)
"""

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
    const float* norms_a, const float* norms_b, int mb, int kb, int nb, unsigned* bits, int* counts,
    unsigned long long* row_work, double* error_parts,
    TAU_PARAMETERS) {
  __shared__ int kept_of[SLICES][ROWS][32];
  __shared__ double skipped[SLICES][ROWS][32];
  __shared__ double squares_of[ROWS];
  const int lane = threadIdx.x, slice = threadIdx.y, words = (kb + 31) / 32;
  const int columns = (nb + 31) / 32, units = (mb + ROWS - 1) / ROWS * columns;
  const float least = TAU;
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
      kept_of[slice][r][lane] = count[r];
      skipped[slice][r][lane] = sum[r];
    }
    __syncthreads();
    if (slice < ROWS) {
      int row_count = 0;
      double cell = 0.0;
      for (int s = 0; s < SLICES; ++s) {
        row_count += kept_of[s][slice][lane];
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

_LISTS = """\
// Kept products of blocks in a row of C's, from the counts of all.
struct Counted {
  const int* counts;
  int nb;
  __device__ __forceinline__ long long operator()(int i, int first, int last) const {
    long long sum = 0;
    for (int j = first; j < last; ++j) sum += counts[(long long)i * nb + j];
    return sum;
  }
};

// Offsets and lists of a row of C's blocks, from counts and bits. What would lie beyond `capacity`
// is left out, which the last offset tells.
__device__ __forceinline__ void compact_row(
    int i, const unsigned* bits, const int* counts, const unsigned long long* row_work, int mb,
    int kb, int nb, long long capacity, long long* offsets, int* ks) {
  __shared__ long long starts[LIST_THREADS];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int words = (kb + 31) / 32;
  long long own = 0, next;
  for (int row = thread; row < i; row += LIST_THREADS) own += (long long)row_work[row];
  sum_before<WARPS>(thread, own, next);
  for (int j0 = 0; j0 < nb; j0 += LIST_THREADS) {
    const int j = j0 + thread;
    long long total;
    starts[thread] =
        next + sum_before<WARPS>(thread, j < nb ? counts[(long long)i * nb + j] : 0, total);
    if (j < nb) offsets[(long long)i * nb + j] = starts[thread];
    next += total;
    __syncthreads();
    for (int cell = warp; cell < min(LIST_THREADS, nb - j0); cell += WARPS) {
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
}

// The first thread block puts C's tiles in order and adds up the error, the others make the lists
// of a row of C's blocks each.
extern "C" __global__ void __launch_bounds__(LIST_THREADS) spamm_plan_lists(
    const unsigned* bits, const int* counts, const unsigned long long* row_work,
    const double* error_parts, int parts, int mb, int kb, int nb, long long capacity,
    long long* offsets, int* ks, double* error_bound, int tiles_n, int tiles, int* order) {
  if (blockIdx.x > 0) {
    compact_row(blockIdx.x - 1, bits, counts, row_work, mb, kb, nb, capacity, offsets, ks);
    return;
  }
  if (threadIdx.x < 32) {
    double squares = 0.0;
    for (int part = threadIdx.x; part < parts; part += 32)
      squares = __dadd_ru(squares, error_parts[part]);
    squares = sum_up_of_warp(squares);
    if (threadIdx.x == 0) *error_bound = __dsqrt_ru(squares);
  }
  tile_order::order_tiles(Counted{counts, nb}, mb, nb, tiles_n, tiles, order);
}
"""


def planning_source(rows: int, tiling: Tiling, *, ratio: bool = False) -> str:
    """CUDA C++ text of the planning kernels.

    Parameters
    ----------
    rows
        What `rows_per_thread` says.
    ratio
        Whether tau comes from passes for a ratio; else it is given.
    """
    head = f"constexpr int ROWS = {rows}, LIST_THREADS = {ORDER_THREADS}, WARPS = {_WARPS};\n"
    tau = RATIO + _TAU_OF_RATIO if ratio else _TAU_GIVEN
    return "\n".join([head, SWEEP, tau, _COUNT, order_text(tiling), _LISTS])


def planning_program(
    grid: tuple[int, int, int],
    tiling: Tiling,
    capacity: int,
    ratio: float | None = None,
) -> Program:
    """From block norms, and tau or a valid ratio, to a plan's lists, on one stream.

    Inputs are ``norms_a`` (mb, kb) and ``norms_b`` (kb, nb), float32 and +inf for blocks that must
    not be skipped, and ``tau``, one float32 (see `spamm.cuda._sweep.float32_below`). Results are
    ``offsets`` (int64, mb * nb + 1), ``ks`` (int32), ``counts`` (int32, mb * nb), ``row_work``
    (uint64, mb: kept products of each row of C's blocks), ``error_bound`` (float64, 1: ||E||_F,
    rounded up; what the norms themselves lack is not in it) and ``order`` (int32: C's tiles,
    heaviest first).

    For a ratio, ``tau`` is a result too, the one whose valid ratio is nearest to that wanted among
    those of float32, and ``kept`` (int64, 2) says how many products the two nearest values of tau
    keep, the first at least as many as wanted. What ``tau`` keeps is the nearer of them; where
    neither is near enough, too many products are equal or not finite.

    Parameters
    ----------
    grid
        Numbers of blocks (mb, kb, nb), each at least 1.
    tiling
        C's tiles.
    capacity
        Length of ``ks``. Where a plan keeps more, its last offset says so and ``ks`` is incomplete:
        allocate that much and run `lists_launch` once more. The whole grid's products always are
        enough; for large grids a plan before this one, or the rank a search was made for, tells
        about how many will be.
    ratio
        Above 0, at most 1; None where tau is given.

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
    norms = ("norms_a", "norms_b")
    passes = RatioPasses((), (), ("tau",)) if ratio is None else ratio_passes(grid, ratio)
    return Program(
        source=planning_source(rows, tiling, ratio=ratio is not None),
        inputs=(*norms, "tau") if ratio is None else norms,
        buffers=(
            *passes.buffers,
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
            *passes.launches,
            Launch(
                "spamm_plan_count",
                (blocks, 1, 1),
                THREADS,
                (*norms, *sizes, "bits", "counts", "row_work", "error_parts", *passes.args),
            ),
            lists_launch(grid, tiling, capacity),
        ),
    )


def lists_launch(grid: tuple[int, int, int], tiling: Tiling, capacity: int) -> Launch:
    """The launch that writes all results but counts; ``ks`` has `capacity` elements."""
    mb, kb, nb = grid
    tiles_m, tiles_n = tiling.grid_of(mb, nb)
    return Launch(
        "spamm_plan_lists",
        (1 + mb, 1, 1),
        (ORDER_THREADS, 1, 1),
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
            np.int32(tiles_n),
            np.int32(tiles_m * tiles_n),
            "order",
        ),
    )
