"""The product of one shape from a plan's arrays, as launches that need nothing else.

For libraries of kernels: what `spamm` itself launches depends on the GPU at hand, such as how many
thread blocks it holds, and takes arrays of any layout. Here all of that is constant.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spamm._plan import Sizes, grid
from spamm.cuda._config import ITEM_BYTES, MultiplyConfig, alignment_of
from spamm.cuda._launch import Buffer, Launch, Program
from spamm.cuda._multiply import multiply_program
from spamm.cuda._order import ORDER_THREADS, Tiling, order_text

_ZERO_THREADS = 256

_PREPARE = """\
struct Listed {
  const long long* offsets;
  int nb;
  __device__ __forceinline__ long long operator()(int i, int first, int last) const {
    const long long* row = offsets + (long long)i * nb;
    return row[last] - row[first];
  }
};

extern "C" __global__ void __launch_bounds__(tile_order::THREADS) spamm_order(
    const long long* offsets, int mb, int nb, int tiles_n, int tiles, int* order) {
  tile_order::order_tiles(Listed{offsets, nb}, mb, nb, tiles_n, tiles, order);
}
"""

_ZERO = """\
extern "C" __global__ void spamm_zero(float* c, long long elements) {
  const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < elements) c[at] = 0.0f;
}
"""


def fixed(config: MultiplyConfig, shape: Sizes) -> MultiplyConfig:
    """The configuration for row-major matrices without gaps, at addresses that 16 divides.

    A persistent kernel's grid is what a GPU holds, which only the GPU tells; with a thread block
    for each tile the GPU itself hands out tiles in their order as multiprocessors become free.
    """
    size = ITEM_BYTES[config.dtype]
    aligned = config.for_alignment(alignment_of(*(size * extent for extent in shape[1:])))
    return replace(aligned, persistent=False)


def product_program(config: MultiplyConfig, shape: Sizes) -> Program:
    """C (m x n) overwritten with a plan's products of A and B, all row-major and without gaps.

    Inputs are ``a`` and ``b`` of ``config.dtype``, at addresses that 16 divides, ``offsets``
    (int64, mb * nb + 1), ``ks`` (int32, at most mb * kb * nb) as `spamm.Plan` has them for blocks
    of ``config.block``, and ``c`` of ``config.out``.

    Parameters
    ----------
    config
        As `fixed` gives it.
    shape
        (m, k, n), each at least 1.

    Raises
    ------
    ValueError
        As `spamm.cuda._multiply.multiply_program`.
    """
    (m, k, n), (mb, _, nb) = shape, grid(shape, config.block)
    product = multiply_program(config, shape, (k, n, n), 1)
    (bm, _, bn), (tile_m, tile_n, _) = config.block, config.tile
    tiling = Tiling.of((bm, bn), (tile_m, tile_n), (m, n))
    tiles_m, tiles_n = tiling.grid_of(mb, nb)
    tiles = tiles_m * tiles_n
    sizes = tuple(np.int32(size) for size in (mb, nb, tiles_n, tiles))
    order = Launch("spamm_order", (1, 1, 1), (ORDER_THREADS, 1, 1), ("offsets", *sizes, "order"))
    source, launches = product.source + order_text(tiling) + _PREPARE, (order, *product.launches)
    if config.split_k > 1:
        # thread blocks add their parts to it
        blocks = (-(-m * n // _ZERO_THREADS), 1, 1)
        zero = Launch("spamm_zero", blocks, (_ZERO_THREADS, 1, 1), ("c", np.int64(m * n)))
        source, launches = source + _ZERO, (zero, *launches)
    return Program(
        source,
        ("a", "b", "c", "offsets", "ks"),
        (Buffer("order", np.dtype(np.int32), tiles),),
        launches,
    )
