"""CUDA C++ text for passes over all products of block norms, which planning is made of.

A thread has a column j of the grid of C and walks every `SLICES`-th group of 32 k-blocks, for a few
rows i: norms of B are read coalesced, those of A are the same for a warp. Products round down: for
a tau that float32 holds, ``a * b < tau`` is then the same in float32 as in exact arithmetic, and
the order of the products that of their bits.
"""

from __future__ import annotations

import numpy as np

SLICES = 8
THREADS = (32, SLICES, 1)
_MOST_BLOCKS = 264
"""Thread blocks of a sweep: enough to fill a GPU, few enough to add up their results again."""
_MANY_CELLS = 1 << 15

SWEEP = f"""\
constexpr int SLICES = {SLICES}, SWEEP_THREADS = 32 * SLICES;
constexpr unsigned EVERY_LANE = 0xffffffffu;
#define INFINITE __uint_as_float(0x7f800000u)
#define LARGEST 0x7f7fffffu

// The bits of a product: in its order, and the same for all that are not finite.
__device__ __forceinline__ unsigned key_of(float product) {{
  return product < INFINITE ? __float_as_uint(product) : 0x7f800000u;
}}

__device__ __forceinline__ double sum_up_of_warp(double value) {{
  for (int lane = 16; lane > 0; lane /= 2)
    value = __dadd_ru(value, __shfl_xor_sync(EVERY_LANE, value, lane));
  return value;
}}

// Sum of what earlier threads of the thread block hold; `total` of all.
template <int WARPS>
__device__ __forceinline__ long long sum_before(int thread, long long value,
                                                 long long& total) {{
  __shared__ long long warps[WARPS];
  const int lane = thread % 32, warp = thread / 32;
  long long sum = value;
  for (int step = 1; step < 32; step *= 2) {{
    const long long other = __shfl_up_sync(EVERY_LANE, sum, step);
    if (lane >= step) sum += other;
  }}
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  long long before = 0;
  total = 0;
  for (int w = 0; w < WARPS; ++w) {{
    before += w < warp ? warps[w] : 0;
    total += warps[w];
  }}
  __syncthreads();
  return before + sum - value;
}}
"""


def rows_per_thread(mb: int, nb: int) -> int:
    """Rows of the grid of C that a thread walks at once: more reuse, or more threads."""
    return 4 if mb * nb >= _MANY_CELLS else 1


def sweep_blocks(mb: int, nb: int, rows: int) -> int:
    """Thread blocks of a sweep over a grid of C, at most as many as are worth their results."""
    return min(_MOST_BLOCKS, -(-mb // rows) * -(-nb // 32))


def checked_grid(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """Numbers of blocks (mb, kb, nb) that the kernels can count.

    Raises
    ------
    ValueError
        The grid is empty, has 2^31 blocks of C, or 2^40 products: a thread block's counters of
        products have 32 bits.
    """
    mb, kb, nb = grid
    if min(grid) < 1 or mb * nb >= 1 << 31 or mb * kb * nb >= 1 << 40:
        raise ValueError(
            "grid: expected at least one block each way, fewer than 2^31 of C and 2^40 products,"
            f" got {grid}"
        )
    return grid


def float32_below(tau: float) -> np.float32:
    """The largest finite float32 that is not above tau: what the kernels take for it.

    A plan made with it keeps what one made with tau keeps, and what lies within a float32's last
    bit below.
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(tau)
    nearest = min(nearest, np.finfo(np.float32).max)
    return nearest if float(nearest) <= tau else np.nextafter(nearest, np.float32(0))
