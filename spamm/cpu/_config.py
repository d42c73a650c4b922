"""The tuning space of the CPU kernel: block sizes, register tile, unrolling."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm.target import codegen

Sizes = tuple[int, int, int]

# Type of the sums, by type of the operands
ACCUMULATORS = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}
# Rows of C's blocks that are computed together
ROWS_TOGETHER = 8
# Cycles between a fused multiply-add and its use, and such instructions begun in a cycle, on the
# processors of the last ten years; loads too are two in a cycle.
_LATENCY = 4
_PER_CYCLE = 2
# Sides of the default blocks come near to this many elements and not above: few enough that
# skipping is sharp, enough that a list of blocks is read in long runs.
_DEFAULT_SIDE = 64
_SIDES = (32, 48, 64, 96, 128)
# More bits than a tile has rows
_MANY = 1 << 20


@dataclass(frozen=True)
class CpuConfig:
    """How a product is computed on a CPU.

    Attributes
    ----------
    block
        SpAMM's blocks (bm, bk, bn). The kernel takes any; this is the one it is tuned for.
    rows, vectors
        Register tile: rows of C by vectors of columns, kept in registers over all kept k-blocks.
    lanes
        Elements of a vector.
    unroll
        Steps along k that are written out in the inner loop.
    depth
        Steps along k that a tile takes, in whole k-blocks, before the next tile's turn.
    """

    block: Sizes
    rows: int
    vectors: int
    lanes: int
    unroll: int = 1
    depth: int = 128

    def __post_init__(self) -> None:
        if min(*self.block, self.rows, self.vectors, self.lanes, self.unroll, self.depth) < 1:
            raise ValueError(f"CpuConfig: expected sizes of at least 1, got {self}")

    @property
    def columns(self) -> int:
        """Columns of the register tile."""
        return self.vectors * self.lanes

    def cycles(self, block: Sizes) -> float:
        """Estimated cycles for one step along k of a product of two such blocks.

        The slowest of multiply-adds, loads and their latency, times the tiles that cover the
        block: edges of the block that a tile overhangs are computed in vain.
        """
        work = max(self.rows * self.vectors, self.rows + self.vectors, _LATENCY * _PER_CYCLE)
        return work / _PER_CYCLE * -(-block[0] // self.rows) * -(-block[2] // self.columns)


def host_target() -> tvm.target.Target:
    """This machine's CPU by LLVM's name."""
    # LLVM answers "" or "generic" for a processor that is newer than itself
    name = str(codegen.llvm_get_system_cpu())
    return tvm.target.Target({"kind": "llvm", "mcpu": name} if name else {"kind": "llvm"})


def space(dtype: str, target: tvm.target.Target) -> list[CpuConfig]:
    """All configurations that are worth a measurement on that CPU.

    Parameters
    ----------
    dtype
        "float16", "bfloat16", "float32" or "float64".
    target
        A CPU as LLVM sees it; it says how many vector registers there are, and how wide.

    Returns
    -------
    Configurations whose register tile fits the registers and keeps the multipliers busy, with
    blocks that the tile covers exactly.
    """
    found = []
    for tile in _tiles(dtype, target):
        heights = sorted({_multiple(side, tile.rows) for side in _SIDES})
        widths = sorted({_multiple(side, tile.columns) for side in _SIDES})
        depths = (32, 64, 128)
        for bm, bk, bn, unroll in itertools.product(heights, depths, widths, (1, 2, 4)):
            found.append(replace(tile, block=(bm, bk, bn), unroll=unroll))
    return found


@functools.lru_cache(maxsize=64)
def default_config(dtype: str, target: tvm.target.Target) -> CpuConfig:
    """The configuration for matrices whose blocks are free to choose.

    The tallest register tile of two vectors that leaves a register to load ahead with, in blocks
    of about 64.
    """
    tall = [tile for tile in _tiles(dtype, target, spare=1) if tile.vectors == 2]
    tile = max(tall, key=lambda each: each.rows)
    bm, bn = (_multiple(_DEFAULT_SIDE, side) for side in (tile.rows, tile.columns))
    return replace(tile, block=(bm, _DEFAULT_SIDE, bn))


@functools.lru_cache(maxsize=256)
def config_for(block: Sizes, dtype: str, target: tvm.target.Target) -> CpuConfig:
    """The register tile that wastes least on blocks of that size.

    Few tiles are looked at, as each costs a second of compiling: the default one, and those whose
    rows are a power of two, as block sizes mostly are multiples of one.
    """
    default = default_config(dtype, target)
    tiles = [tile for tile in _tiles(dtype, target) if tile.rows in (4, 8, 16)]
    fitting = [replace(tile, block=block) for tile in (default, *tiles)]
    return min(fitting, key=lambda tile: (tile.cycles(block), -tile.rows))


def _tiles(dtype: str, target: Any, spare: int = 0) -> list[CpuConfig]:
    """Register tiles whose sums, row of B and elements of A fit the registers but `spare`."""
    bits = 64 if ACCUMULATORS[dtype] == "float64" else 32
    width, registers, elements = _vectors(target)
    tiles = itertools.product(range(2, registers), (1, 2, 3, 4))
    return [
        CpuConfig((1, 1, 1), rows, vectors, width // bits)
        for rows, vectors in tiles
        if rows * vectors >= _LATENCY * _PER_CYCLE
        and (rows + 1) * vectors + -(-rows * bits // elements) + spare <= registers
    ]


def _vectors(target: Any) -> tuple[int, int, int]:
    """Bits of a vector, how many registers there are, and bits of A that one holds at a time."""
    triple = str(target.attrs.get("mtriple") or codegen.llvm_get_system_triple())
    if not triple.startswith(("x86_64", "i686")):
        # multiply-adds take a factor from any lane, so A is loaded a vector at a time
        return 128, 32 if triple.startswith(("aarch64", "arm64")) else 16, 128
    # a broadcast from memory is as cheap as a load, so a register for one element will do
    if codegen.target_has_features("avx512f", target):
        return 512, 32, _MANY
    return 256 if codegen.target_has_features("avx", target) else 128, 16, _MANY


def _multiple(size: int, unit: int) -> int:
    """The largest multiple of `unit` that is not above `size`, at least one."""
    return max(1, size // unit) * unit
