"""The CPU kernel of a product with a constant weight that skips blocks, as one function of TIR.

A micro-kernel as in GotoBLAS (Goto and van de Geijn, 2008): a tile of the result stays in
registers over all blocks that SpAMM keeps for it. Only the weight is packed, when the model is
compiled. Activations are read where they are: a convolution's im2col matrix consists of shifted
views of the padded image, so each of its rows is found by an offset (`columns` below) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

from ops._spamm_tile import Tile, index, wide
from spamm.cpu._emit import at, constant, function, local, loop, put, whole, widen

# vectors that sums of squares are added up in, to hide a part of the latency
_NORM_VECTORS = 4


@dataclass(frozen=True)
class Kernel:
    """All that the code of a product depends on.

    Attributes
    ----------
    left
        Whether the weight is the left factor: C (m x n) = W (m x k) X (k x n). Else
        C (m x n) = X (m x k) W (k x n).
    batch
        How many matrices X there are for the one weight; 1 unless `left`.
    x_stride, out_stride
        Elements from one X of the batch, and one row of C, to the next.
    block, depth
        The weight's blocks: elements along its own side (m or n), and along k.
    strip
        Elements along the other side that have norms of their own; the last strip is longer.
    rows, vectors, lanes
        The tile in registers. Its side along X is at most the extent of X there.
    groups
        Parts that the work on one strip is cut into, for several threads.
    """

    left: bool
    batch: int
    m: int
    k: int
    n: int
    x_stride: int
    out_stride: int
    block: int
    depth: int
    strip: int
    rows: int
    vectors: int
    lanes: int
    groups: int
    dtype: str
    sums: str

    @property
    def columns(self) -> int:
        """Columns of the tile."""
        return self.vectors * self.lanes

    @property
    def panel(self) -> int:
        """The tile's side along the weight."""
        return self.rows if self.left else self.columns

    @property
    def own(self) -> int:
        """The weight's extent beside k."""
        return self.m if self.left else self.n

    @property
    def other(self) -> int:
        """The extent of X beside k."""
        return self.n if self.left else self.m

    @property
    def strips(self) -> int:
        """Strips of one X."""
        return max(1, self.other // self.strip)

    @property
    def k_blocks(self) -> int:
        """Blocks along k."""
        return -(-self.k // self.depth)

    @property
    def panels(self) -> int:
        """Panels of a block of the weight."""
        return self.block // self.panel


@dataclass(frozen=True)
class Shapes:
    """Shapes of the function's arguments.

    `stored` counts the blocks of the weight that are kept at compile time, `cells` its blocks
    along its own side.
    """

    x: tuple[int, ...]
    out: tuple[int, ...]
    stored: int
    cells: int


def kernel_function(name: str, kernel: Kernel, shapes: Shapes, *, test: bool, probe: bool) -> Any:
    """The function that computes C, all of it, from what is kept.

    Parameters, in order: x; the packed blocks of the weight; their norms; their k-blocks;
    `offsets`, where the blocks of each cell begin; `cells`, which block along the weight's own
    side each cell is; `bounds`, where each group's cells begin; `columns`, where each row of X
    begins (where the weight is on the left); tau, one element (with `test`); C; the norms of X's
    blocks, (batch * strips, k-blocks) (with `probe`).

    Parameters
    ----------
    test
        Whether products of norms below tau are skipped; else all stored blocks are used.
    probe
        Whether the norms of X's blocks are a result.
    """
    with function(name) as made:
        T.func_attr({"tirx.is_scheduled": True, "op_pattern": 8})
        emit = _Emitter(kernel, shapes, test, probe)
        if kernel.groups == 1:
            with T.parallel(0, kernel.batch * kernel.strips) as task:
                place = _Place(kernel, task)
                norms = emit.norms_here()
                emit.add_norms(place, norms)
                emit.products(place, norms, 0, shapes.cells)
        else:
            shared = emit.norms_shared()
            if test:
                with T.parallel(0, kernel.batch * kernel.strips) as task:
                    emit.add_norms(_Place(kernel, task), shared)
            with T.parallel(0, kernel.batch * kernel.strips * kernel.groups) as task:
                strip = T.Bind(tirx.truncdiv(task, kernel.groups))
                group = T.Bind(task - strip * kernel.groups)
                first, last = emit.group(group)
                emit.products(_Place(kernel, strip), shared, first, last)
    return made.result


class _Place:
    """A strip: its number, where its X begins, its first element and extent along X."""

    def __init__(self, kernel: Kernel, task: Any) -> None:
        self.number = T.Bind(T.Cast("int64", task))
        self.image = T.Bind(tirx.truncdiv(self.number, kernel.strips))
        strip = T.Bind(self.number - self.image * kernel.strips)
        self.first = T.Bind(strip * kernel.strip)
        rest = kernel.other - (kernel.strips - 1) * kernel.strip
        self.extent = T.Bind(
            tirx.Select(strip == kernel.strips - 1, index(rest), index(kernel.strip))
        )
        self.x = T.Bind(self.image * kernel.x_stride)


class _Emitter:
    """The parts of the function; made where its parameters are declared."""

    def __init__(self, kernel: Kernel, shapes: Shapes, test: bool, probe: bool) -> None:
        self._kernel, self._test, self._probe = kernel, test, probe
        self._convert = widen(kernel.dtype, kernel.sums)
        elements = kernel.panels * kernel.panel * kernel.depth
        self._block_elements = elements
        # an array without elements cannot be an argument
        stored = max(1, shapes.stored)
        declared: dict[str, tuple[tuple[int, ...], str]] = {
            "x": (shapes.x, kernel.dtype),
            "weight": ((stored * elements,), kernel.sums),
            "weight_norms": ((stored,), "float32"),
            "ks": ((stored,), "int32"),
            "offsets": ((shapes.cells + 1,), "int32"),
            "cells": ((shapes.cells,), "int32"),
            "bounds": ((kernel.groups + 1,), "int32"),
        }
        if kernel.left:
            declared["columns"] = ((kernel.k,), "int64")
        if test:
            declared["tau"] = ((1,), "float32")
        declared["out"] = (shapes.out, kernel.sums)
        if probe:
            declared["norms"] = ((kernel.batch * kernel.strips, kernel.k_blocks), "float32")
        buffers = _parameters(declared)
        self._x, self._out = buffers["x"], buffers["out"]
        self._weight, self._weight_norms = buffers["weight"], buffers["weight_norms"]
        self._ks, self._offsets = buffers["ks"], buffers["offsets"]
        self._cells, self._bounds = buffers["cells"], buffers["bounds"]
        self._columns: Any = buffers.get("columns")
        self._tau: Any = buffers.get("tau")
        self._norms_out: Any = buffers.get("norms")

    def group(self, group: Any) -> tuple[Any, Any]:
        """The cells of a group, first and last."""
        return wide(self._bounds[group]), wide(self._bounds[group + 1])

    def norms_here(self) -> Any:
        """Room for the norms of one strip, in the loop over strips."""
        if self._probe or not self._test:
            return self._norms_out
        return T.alloc_buffer((self._kernel.k_blocks,), "float32")

    def norms_shared(self) -> Any:
        """Room for the norms of all strips."""
        if self._probe or not self._test:
            return self._norms_out
        strips = self._kernel.batch * self._kernel.strips
        return T.alloc_buffer((strips * self._kernel.k_blocks,), "float32")

    def _norm_at(self, place: _Place, k_block: Any) -> Any:
        if self._kernel.groups == 1 and not self._probe:
            return k_block
        return place.number * self._kernel.k_blocks + k_block

    def add_norms(self, place: _Place, norms: Any) -> None:
        """Frobenius norms of a strip's blocks.

        The last vector of a line begins early where the line is no whole number of vectors:
        elements that count twice make a norm larger, never smaller.
        """
        if not self._test:
            return
        kernel, lanes = self._kernel, self._kernel.lanes
        sums = [local(lanes, "float32") for _ in range(_NORM_VECTORS)]
        total = local(1, "float32")
        with T.serial(0, kernel.k_blocks) as k_block:
            for one in sums:
                put(one, constant(0.0, "float32", lanes), lanes)
            put(total, constant(0.0, "float32"), 1)
            begin = T.Bind(k_block * kernel.depth)
            depth = T.Bind(T.min(index(kernel.depth), kernel.k - begin))
            if kernel.left:
                with T.serial(0, depth) as t:
                    origin = T.Bind(place.x + self._columns[begin + t] + place.first)
                    self._add_squares(sums, origin, place.extent)
            else:
                with T.serial(0, place.extent) as r:
                    origin = T.Bind((place.first + r) * kernel.k + begin)
                    self._add_squares_of_row(sums, total, origin, depth)
            for one in sums:
                for lane in range(lanes):
                    put(total, total[index(0)] + one[index(lane)], 1)
            # NaN is not below infinity either, and must not be skipped
            infinite = T.infinity("float32")
            squares = T.Bind(total[index(0)])
            norm = tirx.Select(squares < infinite, tirx.sqrt(squares), infinite)
            T.buffer_store(norms, norm, [self._norm_at(place, k_block)])

    def _add_squares(self, sums: list[Any], origin: Any, extent: Any) -> None:
        lanes = self._kernel.lanes
        step = lanes * len(sums)
        with T.serial(0, tirx.truncdiv(extent + (step - 1), step)) as v:
            for number, one in enumerate(sums):
                start = T.Bind(T.min(v * step + number * lanes, extent - lanes))
                self._add_square(one, origin + start)

    def _add_squares_of_row(self, sums: list[Any], total: Any, origin: Any, depth: Any) -> None:
        lanes = self._kernel.lanes
        step = lanes * len(sums)
        groups = T.Bind(tirx.truncdiv(depth, step))
        with T.serial(0, groups) as v:
            for number, one in enumerate(sums):
                self._add_square(one, origin + v * step + number * lanes)
        with loop(groups * step, depth) as s:
            value = T.Bind(T.Cast("float32", self._convert(self._x[origin + s], 1)))
            put(total, total[index(0)] + value * value, 1)

    def _add_square(self, into: Any, origin: Any) -> None:
        lanes = self._kernel.lanes
        value = self._convert(self._x[at(origin, lanes)], lanes)
        if self._kernel.sums != "float32":
            value = T.Cast(f"float32x{lanes}" if lanes > 1 else "float32", value)
        value = T.Bind(value)
        put(into, whole(into, lanes) + value * value, lanes)

    def products(self, place: _Place, norms: Any, first: Any, last: Any) -> None:
        """The blocks of C that a strip and some cells of the weight make."""
        kernel = self._kernel
        tile = Tile(kernel.rows, kernel.vectors, kernel.lanes, kernel.sums)
        kept: Any = local(kernel.k_blocks, "int32") if self._test else None
        count: Any = local(1, "int64") if self._test else None
        with loop(first, last) as position:
            begin = T.Bind(wide(self._offsets[position]))
            end = T.Bind(wide(self._offsets[position + 1]))
            origin = T.Bind(wide(self._cells[position]) * kernel.block)
            if self._test:
                T.buffer_store(count, index(0), [index(0)])
                with loop(begin, end) as entry:
                    norm = norms[self._norm_at(place, wide(self._ks[entry]))]
                    # never NaN: stored blocks have norms above zero, and no norm is NaN
                    product = self._weight_norms[entry] * norm
                    with T.If(product >= self._tau[index(0)]), T.Then():
                        T.buffer_store(kept, T.Cast("int32", entry), [count[index(0)]])
                        T.buffer_store(count, count[index(0)] + 1, [index(0)])
                number = T.Bind(count[index(0)])
            else:
                number = T.Bind(end - begin)
            size = T.Bind(T.min(index(kernel.block), kernel.own - origin))
            panels = T.Bind(tirx.truncdiv(size + (kernel.panel - 1), kernel.panel))
            along = kernel.columns if kernel.left else kernel.rows
            with (
                T.serial(0, panels) as panel,
                T.serial(0, tirx.truncdiv(place.extent + (along - 1), along)) as part,
            ):
                # the last tile begins early rather than leave the strip
                start = T.Bind(place.first + T.min(part * along, place.extent - along))
                tile.clear()
                with T.serial(0, number) as nth:
                    entry = T.Bind(wide(kept[nth]) if self._test else begin + nth)
                    self._add(tile, place, entry, panel, start)
                self._store(tile, place, T.Bind(origin + panel * kernel.panel), start)

    def _add(self, tile: Tile, place: _Place, entry: Any, panel: Any, start: Any) -> None:
        kernel, lanes = self._kernel, self._kernel.lanes
        k0 = T.Bind(wide(self._ks[entry]) * kernel.depth)
        depth = T.Bind(T.min(index(kernel.depth), kernel.k - k0))
        packed = T.Bind(entry * self._block_elements + panel * (kernel.panel * kernel.depth))
        if kernel.left:
            base = T.Bind(place.x + start)

            def factor(step: Any, r: int) -> Any:
                return self._weight[packed + step * kernel.rows + r]

            def row(step: Any) -> Callable[[int], Any]:
                origin = T.Bind(base + self._columns[k0 + step])
                return lambda v: self._convert(self._x[at(origin + v * lanes, lanes)], lanes)
        else:
            base = T.Bind(start * kernel.k + k0)

            def factor(step: Any, r: int) -> Any:
                return self._convert(self._x[base + r * kernel.k + step], 1)

            def row(step: Any) -> Callable[[int], Any]:
                origin = T.Bind(packed + step * kernel.columns)
                return lambda v: self._weight[at(origin + v * lanes, lanes)]

        tile.add(factor, row, depth)

    def _store(self, tile: Tile, place: _Place, own: Any, start: Any) -> None:
        kernel = self._kernel
        left_over = kernel.own - own
        if kernel.left:
            origin = T.Bind((place.image * kernel.m + own) * kernel.out_stride + start)
            tile.store(self._out, origin, kernel.out_stride, left_over, None)
        else:
            origin = T.Bind(start * kernel.out_stride + own)
            tile.store(self._out, origin, kernel.out_stride, None, left_over)


def _parameters(declared: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, Any]:
    """Parameters of these shapes and types, seen as vectors of their elements."""
    arrays = {name: T.arg(name, T.Buffer(*one)) for name, one in declared.items()}
    return {
        name: T.decl_buffer((math.prod(shape),), dtype, data=arrays[name].data)
        for name, (shape, dtype) in declared.items()
    }
