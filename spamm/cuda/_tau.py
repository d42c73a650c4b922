"""tau from what is wanted, found on a GPU: a valid ratio, or a bound on the error.

Both searches take the bits of tau from the top, some in each pass over all products: products of
norms are not negative, so they are in the order of their bits. Nothing but counters and sums is
stored, and the host does not wait between the passes.

For a ratio, a pass counts the products by their next 11 or 10 bits, after which those of the
product of the wanted rank are known: three passes, and what is left to do begins the planning. For
a bound, a pass adds up what each of 15 values of the next 4 bits would skip, and the largest that
keeps the bound stays: eight passes. Each kernel starts with what the one before has left to decide,
which all its thread blocks do alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from spamm.cuda._launch import Argument, Buffer, Launch, Program
from spamm.cuda._sweep import SWEEP, THREADS, checked_grid, sweep_blocks

_PASSES = ((20, 11), (10, 10), (0, 10))
"""Of the search for a ratio: how far to shift, and how many bits to count by."""
_BINS = 2048
_CANDIDATES = 15
_SHIFTS = tuple(range(28, -1, -4))
# Of squares: both kernels' sums round up, each in its own order, by less than half of it. What the
# plan then says of its error is within the bound too.
_BOUND_SLACK = 2.0**-16

RATIO = """\
constexpr int BINS = 2048, BINS_PER_THREAD = BINS / SWEEP_THREADS;

// Of numbers counted in bins: the bin of the rank-th largest, how many lie in larger bins and how
// many in it. Zero is not counted, so it is what remains when there are too few others.
__device__ __forceinline__ void pick(const unsigned long long* histogram, long long rank,
                                     int thread, long long (&picked)[3]) {
  __shared__ long long found[3];
  const int top = BINS - 1 - thread * BINS_PER_THREAD;
  long long own = 0, total;
  for (int b = 0; b < BINS_PER_THREAD; ++b) own += (long long)histogram[top - b];
  long long above = sum_before<SLICES>(thread, own, total);
  if (thread == 0 && total < rank) {
    found[0] = 0;
    found[1] = total - (long long)histogram[0];
    found[2] = (long long)histogram[0];
  }
  if (above < rank && rank <= above + own) {
    int bin = top;
    while (above + (long long)histogram[bin] < rank) above += (long long)histogram[bin--];
    found[0] = bin;
    found[1] = above;
    found[2] = (long long)histogram[bin];
  }
  __syncthreads();
  for (int field = 0; field < 3; ++field) picked[field] = found[field];
}

// The search after a pass: the upper bits, the rank among those that have them, and how many are
// larger than all those.
struct Search {
  long long prefix, rank, above;
};

__device__ __forceinline__ Search advance(Search from, const unsigned long long* histogram,
                                          int bits, int thread, long long& here) {
  long long picked[3];
  pick(histogram, from.rank, thread, picked);
  here = picked[2];
  Search to;
  to.prefix = from.prefix << bits | picked[0];
  to.rank = from.rank - picked[1];
  to.above = from.above + picked[1];
  return to;
}

// Counts the products whose upper bits are those found so far by their next bits. `before` is the
// histogram of the last pass, of `before_bits`, or null in the first; `searches` the search before
// each pass.
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) spamm_tau_count(
    const float* norms_a, const float* norms_b, int mb, int kb, int nb, long long rank,
    const unsigned long long* before, int before_bits, int shift, int bits,
    const long long* search_before, long long* search_now, unsigned long long* histogram) {
  __shared__ unsigned bins[BINS];
  const int lane = threadIdx.x, slice = threadIdx.y, thread = 32 * slice + lane;
  Search search = {0, rank, 0};
  if (before) {
    const Search from = {search_before[0], search_before[1], search_before[2]};
    long long here;
    search = advance(from, before, before_bits, thread, here);
  }
  if (blockIdx.x == 0 && thread == 0) {
    search_now[0] = search.prefix;
    search_now[1] = search.rank;
    search_now[2] = search.above;
  }
  for (int bin = thread; bin < BINS; bin += SWEEP_THREADS) bins[bin] = 0u;
  __syncthreads();
  const int columns = (nb + 31) / 32;
  const long long units = (long long)mb * columns;
  const unsigned wanted = (unsigned)search.prefix, mask = (1u << bits) - 1u;
  for (long long unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int i = (int)(unit / columns), j = (int)(unit % columns) * 32 + lane;
    if (j < nb) {
      const float* a = norms_a + (long long)i * kb;
      const float* b = norms_b + (long long)slice * nb + j;
#pragma unroll 4
      for (int k = slice; k < kb; k += SLICES, b += (long long)SLICES * nb) {
        const unsigned key = key_of(__fmul_rd(a[k], *b));
        // shifted in two steps: all 31 bits of the first pass are more than a shift may be
        if (key && key >> shift >> bits == wanted) atomicAdd(&bins[key >> shift & mask], 1u);
      }
    }
  }
  __syncthreads();
  for (int bin = thread; bin < BINS; bin += SWEEP_THREADS)
    if (bins[bin]) atomicAdd(&histogram[bin], (unsigned long long)bins[bin]);
}

// tau, after the last pass; the first thread block notes it, and what it and the next larger tau
// keep. `wanted` need not be whole.
__device__ __forceinline__ float tau_of_ratio(
    const unsigned long long* histogram, int bits, const long long* search_before, double wanted,
    long long products, float* tau, long long* kept) {
  const int thread = 32 * threadIdx.y + threadIdx.x;
  const Search from = {search_before[0], search_before[1], search_before[2]};
  long long here;
  const Search search = advance(from, histogram, bits, thread, here);
  const unsigned key = (unsigned)search.prefix;
  const long long more = key ? search.above + here : products, fewer = search.above;
  const bool next = key < LARGEST && (double)more - wanted > wanted - (double)fewer;
  const float found = __uint_as_float(min(key, LARGEST) + (next ? 1u : 0u));
  if (blockIdx.x == 0 && thread == 0) {
    *tau = found;
    kept[0] = more;
    kept[1] = fewer;
  }
  return found;
}
"""

_BOUND = """\
constexpr int CANDIDATES = 15;

// The largest tau so far: the last pass tried the 15 next values of its bits, and left for each
// thread block and candidate the squares of what is skipped.
__device__ __forceinline__ unsigned advance(unsigned prefix, const double* parts, int blocks,
                                            int shift, double limit, int lane, int slice) {
  __shared__ int best[SLICES];
  int fits = 0;
  for (int q = slice; q < CANDIDATES; q += SLICES) {
    double squares = 0.0;
    for (int block = lane; block < blocks; block += 32)
      squares = __dadd_ru(squares, parts[block * CANDIDATES + q]);
    squares = sum_up_of_warp(squares);
    // in 64 bits: candidates of the first pass go beyond 32
    const unsigned long long key = prefix + ((unsigned long long)(q + 1) << shift);
    if (squares <= limit && key <= LARGEST) fits = q + 1;
  }
  if (lane == 0) best[slice] = fits;
  __syncthreads();
  int most = 0;
  for (int s = 0; s < SLICES; ++s) most = max(most, best[s]);
  return prefix + ((unsigned)most << shift);
}

// For each of 15 candidates, tau's next bits at `shift`: squares of what its cells skip. `before`
// is what the last pass left, or null in the first; prefixes are tau's bits before each pass.
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) spamm_tau_try(
    const float* norms_a, const float* norms_b, int mb, int kb, int nb, double limit,
    const double* before, int before_shift, int shift, const unsigned* prefix_before,
    unsigned* prefix_now, double* parts) {
  __shared__ float skipped[SLICES][CANDIDATES][32];
  const int lane = threadIdx.x, slice = threadIdx.y;
  unsigned prefix = 0u;
  if (before)
    prefix = advance(*prefix_before, before, gridDim.x, before_shift, limit, lane, slice);
  if (blockIdx.x == 0 && lane == 0 && slice == 0) *prefix_now = prefix;
  float taus[CANDIDATES];
#pragma unroll
  for (int q = 0; q < CANDIDATES; ++q) {
    const unsigned long long key = prefix + ((unsigned long long)(q + 1) << shift);
    taus[q] = __uint_as_float(key <= LARGEST ? (unsigned)key : LARGEST);
  }
  double squares[2] = {0.0, 0.0};
  const int columns = (nb + 31) / 32;
  const long long units = (long long)mb * columns;
  for (long long unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int i = (int)(unit / columns), j = (int)(unit % columns) * 32 + lane;
    float sums[CANDIDATES];
#pragma unroll
    for (int q = 0; q < CANDIDATES; ++q) sums[q] = 0.0f;
    if (j < nb) {
      const float* row = norms_a + (long long)i * kb;
      const float* column = norms_b + (long long)slice * nb + j;
#pragma unroll 4
      for (int k = slice; k < kb; k += SLICES, column += (long long)SLICES * nb) {
        const float a = row[k], b = *column, product = __fmul_rd(a, b);
#pragma unroll
        for (int q = 0; q < CANDIDATES; ++q)
          if (product < taus[q]) sums[q] = __fmaf_ru(a, b, sums[q]);
      }
    }
#pragma unroll
    for (int q = 0; q < CANDIDATES; ++q) skipped[slice][q][lane] = sums[q];
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int q = slice + half * SLICES;
      if (q < CANDIDATES) {
        double cell = 0.0;
        for (int s = 0; s < SLICES; ++s) cell = __dadd_ru(cell, (double)skipped[s][q][lane]);
        squares[half] = __fma_ru(cell, cell, squares[half]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int q = slice + half * SLICES;
    const double sum = sum_up_of_warp(squares[half]);
    if (q < CANDIDATES && lane == 0) parts[blockIdx.x * CANDIDATES + q] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) spamm_tau_of_bound(
    const double* parts, int blocks, int shift, double limit, const unsigned* prefix_before,
    float* tau) {
  const unsigned prefix =
      advance(*prefix_before, parts, blocks, shift, limit, threadIdx.x, threadIdx.y);
  if (threadIdx.x == 0 && threadIdx.y == 0) *tau = __uint_as_float(prefix);
}
"""


class RatioPasses(NamedTuple):
    """Passes over all products that leave little to find the tau of a valid ratio.

    Attributes
    ----------
    buffers, launches
        Of kernels in `RATIO`; ``tau`` (float32, 1) and ``kept`` (int64, 2) are among the buffers,
        but filled by whoever calls ``tau_of_ratio``.
    args
        Of ``tau_of_ratio``.
    """

    buffers: tuple[Buffer, ...]
    launches: tuple[Launch, ...]
    args: tuple[Argument, ...]


def ratio_passes(grid: tuple[int, int, int], ratio: float) -> RatioPasses:
    """Towards the tau whose valid ratio is nearest to the one wanted, among those of float32.

    Inputs are ``norms_a`` (mb, kb) and ``norms_b`` (kb, nb), float32.

    Parameters
    ----------
    grid
        Numbers of blocks (mb, kb, nb), each at least 1.
    ratio
        Above 0, at most 1.

    Raises
    ------
    ValueError
        As `spamm.cuda._sweep.checked_grid`.
    """
    mb, kb, nb = checked_grid(grid)
    products = mb * kb * nb
    wanted = ratio * products
    # the first of the two neighbours keeps at least as many; rounding must not ask for one more
    rank = max(1, math.ceil(wanted * (1 - 2.0**-50)))
    sizes = (np.int32(mb), np.int32(kb), np.int32(nb))
    blocks = (sweep_blocks(mb, nb, 1), 1, 1)
    launches = []
    args: tuple[Argument, ...]
    for number, (shift, bits) in enumerate(_PASSES):
        last = number - 1
        args = (
            "norms_a",
            "norms_b",
            *sizes,
            np.int64(rank),
            f"histogram_{last}" if number else None,
            np.int32(_PASSES[last][1]),
            np.int32(shift),
            np.int32(bits),
            f"search_{last}" if number else None,
            f"search_{number}",
            f"histogram_{number}",
        )
        launches.append(Launch("spamm_tau_count", blocks, THREADS, args))
    end = len(_PASSES) - 1
    args = (
        f"histogram_{end}",
        np.int32(_PASSES[end][1]),
        f"search_{end}",
        np.float64(wanted),
        np.int64(products),
        "tau",
        "kept",
    )
    uint64, int64 = np.dtype(np.uint64), np.dtype(np.int64)
    buffers = (
        *(Buffer(f"histogram_{n}", uint64, _BINS, zeroed=True) for n in range(end + 1)),
        *(Buffer(f"search_{n}", int64, 3) for n in range(end + 1)),
        Buffer("tau", np.dtype(np.float32), 1),
        Buffer("kept", int64, 2),
    )
    return RatioPasses(buffers, tuple(launches), args)


def bound_program(grid: tuple[int, int, int], bound: float) -> Program:
    """The largest float32 tau for which ||E||_F, of what is skipped, is at most `bound`.

    E_ij is the sum of the skipped ||A_ik|| ||B_kj|| (arXiv 2005.10680). Sums are made in float32,
    rounding up: the bound holds, and at most 2^-17 + kb 2^-26 of it is given away. Inputs are
    ``norms_a`` and ``norms_b`` as for `ratio_passes`, the result is ``tau`` (float32, 1).

    Parameters
    ----------
    grid
        Numbers of blocks (mb, kb, nb), each at least 1.
    bound
        At least 0.

    Raises
    ------
    ValueError
        As `spamm.cuda._sweep.checked_grid`.
    """
    mb, kb, nb = checked_grid(grid)
    limit = np.float64(bound) * np.float64(bound) * (1 - _BOUND_SLACK)
    sizes = (np.int32(mb), np.int32(kb), np.int32(nb))
    blocks = sweep_blocks(mb, nb, 1)
    launches = []
    args: tuple[Argument, ...]
    for number, shift in enumerate(_SHIFTS):
        last = number - 1
        args = (
            "norms_a",
            "norms_b",
            *sizes,
            limit,
            f"parts_{last % 2}" if number else None,
            np.int32(_SHIFTS[last]),
            np.int32(shift),
            f"prefix_{last}" if number else None,
            f"prefix_{number}",
            f"parts_{number % 2}",
        )
        launches.append(Launch("spamm_tau_try", (blocks, 1, 1), THREADS, args))
    end = len(_SHIFTS) - 1
    args = (
        f"parts_{end % 2}",
        np.int32(blocks),
        np.int32(_SHIFTS[end]),
        limit,
        f"prefix_{end}",
        "tau",
    )
    launches.append(Launch("spamm_tau_of_bound", (1, 1, 1), THREADS, args))
    return Program(
        source=SWEEP + _BOUND,
        inputs=("norms_a", "norms_b"),
        buffers=(
            *(Buffer(f"parts_{n}", np.dtype(np.float64), blocks * _CANDIDATES) for n in range(2)),
            *(Buffer(f"prefix_{n}", np.dtype(np.uint32), 1) for n in range(end + 1)),
            Buffer("tau", np.dtype(np.float32), 1),
        ),
        launches=tuple(launches),
    )
