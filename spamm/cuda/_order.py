"""C's tiles by work, heaviest first, so that none is begun last that takes longest."""

from __future__ import annotations

from dataclasses import dataclass

ORDER_THREADS = 1024
"""Threads of the one thread block that `order_tiles` runs in."""

_ORDER = """\
// In steps of half a power of two; equals in no certain order.
__device__ __forceinline__ int bucket_of(long long work) {
  if (work <= 1) return 63;
  const int exponent = 63 - __clzll(work);
  return max(0, 63 - 2 * exponent - (int)(work >> (exponent - 1) & 1));
}

// Kept products of the blocks of C that a tile holds, or is a part of; `kept(i, first, last)` are
// those of blocks in a row of them.
template <class Kept>
__device__ __forceinline__ long long work_of(const Kept& kept, int mb, int nb, int tiles_n,
                                             int tile) {
  const int i0 = tile / tiles_n / TILES_M * BLOCKS_M, j0 = tile % tiles_n / TILES_N * BLOCKS_N;
  long long work = 0;
  for (int i = i0; i < min(mb, i0 + BLOCKS_M); ++i) work += kept(i, j0, min(nb, j0 + BLOCKS_N));
  return work;
}

template <class Kept>
__device__ __forceinline__ void order_tiles(const Kept& kept, int mb, int nb, int tiles_n,
                                            int tiles, int* order) {
  __shared__ int cursors[64];
  const int thread = threadIdx.x, lane = thread % 32;
  if (thread < 64) cursors[thread] = 0;
  __syncthreads();
  for (int pass = 0; pass < 2; ++pass) {
    for (int t0 = 0; t0 < tiles; t0 += THREADS) {
      const int tile = t0 + thread;
      const bool there = tile < tiles;
      const int bucket = there ? bucket_of(work_of(kept, mb, nb, tiles_n, tile)) : 64;
      // lanes of the same bucket take their places at once, in the order of their tiles
      unsigned left = __ballot_sync(~0u, there);
      while (left) {
        const int leader = __ffs((int)left) - 1;
        const int common = __shfl_sync(~0u, bucket, leader);
        const unsigned same = __ballot_sync(~0u, bucket == common);
        int place = 0;
        if (lane == leader) place = atomicAdd(&cursors[common], __popc(same));
        place = __shfl_sync(~0u, place, leader) + __popc(same & ((1u << lane) - 1u));
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
    """How the multiply kernel cuts C, in blocks of C: what an order of tiles counts.

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


def order_text(tiling: Tiling) -> str:
    """CUDA C++ text of ``tile_order::order_tiles``, for a thread block of `ORDER_THREADS`."""
    return "\n".join(
        [
            "namespace tile_order {",
            f"constexpr int THREADS = {ORDER_THREADS};",
            f"constexpr int BLOCKS_M = {tiling.blocks[0]}, BLOCKS_N = {tiling.blocks[1]};",
            f"constexpr int TILES_M = {tiling.tiles[0]}, TILES_N = {tiling.tiles[1]};",
            _ORDER,
            "}  // namespace tile_order",
            "",
        ]
    )
