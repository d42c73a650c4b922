"""The multiplication over kept blocks, from packed operands.

A micro-kernel as in GotoBLAS (Goto and van de Geijn, 2008): a tile of C stays in registers over a
run of the k-blocks that SpAMM keeps for its block, while all tiles of the block take their turns
on that run's panels of A and B, which therefore come from the nearest cache.

Packed operands: the used blocks of A (bm x bk) and of B (bk x bn), one after the other, each cut
into panels of the register tile's height and width. A panel holds, for each k of the block, the
tile's rows of A (or columns of B) side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

from spamm.cpu._config import CpuConfig
from spamm.cpu._emit import (
    at,
    ceil_quotient,
    constant,
    function,
    local,
    loop,
    parameters,
    put,
    quotient,
    whole,
)


def multiply_function(config: CpuConfig, sums: str) -> Any:
    """``multiply(...)``: blocks ``cells[first:last]`` of C, overwritten with their kept products.

    Parameters, pointers first: packed A and B; C, unit stride along rows and `ldc` elements from
    row to row; numbers i * nb + j of C's blocks; the plan's offsets and ks; `slots_a` (mb, kb) and
    `slots_b` (kb, nb), each block's place among the packed ones; `saved`, room for the tiles of a
    block of C; then first, last, m, k, n, bm, bk, bn, ldc and `run`, k-blocks that a tile adds up
    before the next one's turn.
    """
    with function("multiply") as made:
        pointers = {"packed_a": sums, "packed_b": sums, "out": sums}
        lists = {"cells": "int64", "offsets": "int64", "ks": "int32"}
        places = {"slots_a": "int64", "slots_b": "int64", "saved": sums}
        (a, b, c, cells, offsets, ks, slots_a, slots_b, saved), sizes = parameters(
            pointers | lists | places, "first last m k n bm bk bn ldc run"
        )
        first, last, m, k, n, bm, bk, bn, ldc, run = sizes
        blocks = BlocksOfC(config, sums, (a, b, c, offsets, ks, saved))
        blocks.enter((m, k, n), (bm, bk, bn), ldc, run)
        kb, nb = T.Bind(ceil_quotient(k, bk)), T.Bind(ceil_quotient(n, bn))
        with loop(first, last) as position:
            cell = T.Bind(cells[position])
            i = T.Bind(quotient(cell, nb))
            j = T.Bind(cell - i * nb)
            blocks.compute(
                (cell, i, j),
                lambda kk: slots_a[i * kb + kk],
                lambda kk: slots_b[kk * nb + j],
            )
    return made.result


class BlocksOfC:
    """Emits what computes a block of C.

    Parameters
    ----------
    arrays
        Packed A and B, C, the plan's offsets and ks, and room for the tiles of a block, as
        `multiply_function` has them.
    """

    def __init__(self, config: CpuConfig, sums: str, arrays: tuple[Any, ...]) -> None:
        self._config, self._arrays = config, arrays
        self._tile = _Tile(config, sums)

    def enter(self, shape: tuple[Any, ...], block: tuple[Any, ...], ldc: Any, run: Any) -> None:
        """The sizes that `compute` reads."""
        config, (bm, bk, bn) = self._config, block
        self._shape, self._block, self._ldc, self._run = shape, block, ldc, run
        self._panel_a, self._panel_b = T.Bind(bk * config.rows), T.Bind(bk * config.columns)
        self._down = T.Bind(ceil_quotient(bm, config.rows))
        self._block_a = T.Bind(self._down * self._panel_a)
        self._block_b = T.Bind(ceil_quotient(bn, config.columns) * self._panel_b)

    def compute(
        self,
        cell: tuple[Any, Any, Any],
        slot_a: Callable[[Any], Any],
        slot_b: Callable[[Any], Any],
    ) -> None:
        """Overwrites block ``(i nb + j, i, j)``.

        `slot_a` and `slot_b` give the places among the packed blocks of the row's and the
        column's k-th block.
        """
        (number, i, j), tile, config, run = cell, self._tile, self._config, self._run
        (m, k, n), (bm, bk, bn), ldc, down = self._shape, self._block, self._ldc, self._down
        a, b, c, offsets, ks, saved = self._arrays
        height, width = T.Bind(T.min(bm, m - i * bm)), T.Bind(T.min(bn, n - j * bn))
        begin, end = T.Bind(offsets[number]), T.Bind(offsets[number + 1])
        runs = T.Bind(T.max(1, ceil_quotient(end - begin, run)))
        # B's panels outside: they are the larger, and the same ones serve all of A's
        with (
            T.serial(0, runs) as part,
            T.serial(0, ceil_quotient(width, config.columns)) as jp,
            T.serial(0, ceil_quotient(height, config.rows)) as ip,
        ):
            place = T.Bind((jp * down + ip) * (config.rows * config.columns))
            with T.If(part == 0):
                with T.Then():
                    tile.clear()
                with T.Else():
                    tile.load(saved, place)
            entries = T.Bind(begin + part * run), T.Bind(T.min(end, begin + (part + 1) * run))
            with loop(*entries) as entry:
                kk = T.Bind(T.Cast("int64", ks[entry]))
                from_a = T.Bind(slot_a(kk) * self._block_a + ip * self._panel_a)
                from_b = T.Bind(slot_b(kk) * self._block_b + jp * self._panel_b)
                tile.add(a, from_a, b, from_b, T.Bind(T.min(bk, k - kk * bk)))
            to = (i * bm + ip * config.rows) * ldc + j * bn + jp * config.columns
            rows, columns = height - ip * config.rows, width - jp * config.columns
            with T.If(part == runs - 1):
                with T.Then():
                    tile.store(c, T.Bind(to), ldc, T.Bind(rows), T.Bind(columns))
                with T.Else():
                    tile.save(saved, place)


class _Tile:
    """A tile of C in registers: `rows` times `vectors` vectors of sums."""

    def __init__(self, config: CpuConfig, sums: str) -> None:
        self._config, self._sums = config, sums
        self._vectors = [
            [local(config.lanes, sums) for _ in range(config.vectors)] for _ in range(config.rows)
        ]
        self._edge = local(config.lanes, sums)

    def clear(self) -> None:
        lanes = self._config.lanes
        for row in self._vectors:
            for vector in row:
                put(vector, constant(0.0, self._sums, lanes), lanes)

    def load(self, saved: Any, place: Any) -> None:
        """Takes up the sums that `save` left there."""
        lanes = self._config.lanes
        for number, vector in enumerate(itertools.chain(*self._vectors)):
            put(vector, saved[at(place + number * lanes, lanes)], lanes)

    def save(self, saved: Any, place: Any) -> None:
        """Leaves the sums as they are in registers, vector after vector."""
        lanes = self._config.lanes
        for number, vector in enumerate(itertools.chain(*self._vectors)):
            T.buffer_store(saved, whole(vector, lanes), [at(place + number * lanes, lanes)])

    def add(self, a: Any, from_a: Any, b: Any, from_b: Any, depth: Any) -> None:
        """Adds the product of a panel of A and a panel of B over `depth` steps along k."""
        unroll = self._config.unroll
        whole_steps = T.Bind(quotient(depth, unroll)) if unroll > 1 else depth
        with T.serial(0, whole_steps) as group:
            for step in range(unroll):
                self._step(a, from_a, b, from_b, group * unroll + step)
        if unroll > 1:
            with loop(whole_steps * unroll, depth) as step:
                self._step(a, from_a, b, from_b, step)

    def _step(self, a: Any, from_a: Any, b: Any, from_b: Any, step: Any) -> None:
        config, lanes = self._config, self._config.lanes
        row_b = [
            T.Bind(b[at(from_b + step * config.columns + v * lanes, lanes)])
            for v in range(config.vectors)
        ]
        for r, row in enumerate(self._vectors):
            factor = a[from_a + step * config.rows + r]
            for vector, part in zip(row, row_b, strict=True):
                product = tirx.Broadcast(factor, lanes) * part if lanes > 1 else factor * part
                put(vector, whole(vector, lanes) + product, lanes)

    def store(self, c: Any, to: Any, ldc: Any, rows: Any, columns: Any) -> None:
        """Writes the tile, or its upper left corner where C or its block ends inside of it."""
        config, lanes = self._config, self._config.lanes
        with T.If(tirx.all(rows >= config.rows, columns >= config.columns)):
            with T.Then():
                for r, row in enumerate(self._vectors):
                    for v, vector in enumerate(row):
                        T.buffer_store(
                            c, whole(vector, lanes), [at(to + r * ldc + v * lanes, lanes)]
                        )
            with T.Else():
                for r, row in enumerate(self._vectors):
                    for v, vector in enumerate(row):
                        with T.If(rows > r), T.Then():
                            # an index that is not constant would take the sums out of registers
                            put(self._edge, whole(vector, lanes), lanes)
                            with T.serial(0, T.min(columns - v * lanes, lanes)) as s:
                                T.buffer_store(c, self._edge[s], [to + r * ldc + v * lanes + s])
