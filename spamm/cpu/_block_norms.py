"""Frobenius norms of a matrix's blocks, in float64, read in the order of memory.

Rows are read from end to end, past all blocks of a row of them, with sums for each: short pieces of
one block after the other would keep the processor from fetching ahead, and this is memory's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

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
    widen,
    zero,
)

# Lanes of the sums of squares: two vectors of the widest kind, to hide a part of the latency
_NORM_LANES = 16
# Blocks whose sums are kept at a time: 8 KiB of them, which stay in the nearest cache
_BLOCKS = 64
_KEPT = _BLOCKS * (_NORM_LANES + 1)
KEPT = 2 * _KEPT
"""Elements of ``kept``, the room for sums that `norms_function` asks for."""


def norms_function(dtype: str) -> Any:
    """``norms(...)``: Frobenius norms in float64 of the blocks of rows first <= i < last.

    A sum of squares that is NaN stays one. Of float64 numbers, squares may over- or underflow,
    which the blocks' largest magnitudes tell. Parameters: the matrix, unit stride along rows and
    `stride` elements from row to row; the norms (mb, nb); ``kept``, room for `KEPT` float64; for
    float64, the largest magnitudes (mb, nb); then first, last, stride, m, n and the block's rows
    and columns.
    """
    pointers = {"source": dtype, "norms": "float64", "kept": "float64"}
    if dtype == "float64":
        pointers["peaks"] = "float64"
    with function("norms") as made:
        buffers, sizes = parameters(pointers, "first last stride m n rows columns")
        first, last, stride, m, n, rows, columns = sizes
        source, norms, kept = buffers[:3]
        reductions = [_Reduction(norms, kept, 0, lambda x, y: x + y, lambda x: x * x, tirx.sqrt)]
        if dtype == "float64":
            reductions.append(_Reduction(buffers[3], kept, _KEPT, tirx.max, tirx.abs, lambda x: x))
        convert = widen(dtype, "float64")
        nb = T.Bind(ceil_quotient(n, columns))
        with loop(first, last) as i, T.serial(0, ceil_quotient(nb, _BLOCKS)) as group:
            j0 = T.Bind(group * _BLOCKS)
            blocks = T.Bind(T.min(nb - j0, _BLOCKS))
            for each in reductions:
                each.clear(blocks)
            with T.serial(0, T.min(rows, m - i * rows)) as r, T.serial(0, blocks) as block:
                column = T.Bind((j0 + block) * columns)
                width = T.Bind(T.min(columns, n - column))
                origin = T.Bind((i * rows + r) * stride + column)
                for each in reductions:
                    each.begin_row()
                vectors = T.Bind(quotient(width, _NORM_LANES))
                with T.serial(0, vectors) as v:
                    start = origin + v * _NORM_LANES
                    x = T.Bind(convert(source[at(start, _NORM_LANES)], _NORM_LANES))
                    for each in reductions:
                        each.add(x)
                with loop(vectors * _NORM_LANES, width) as s:
                    x = T.Bind(convert(source[origin + s], 1))
                    for each in reductions:
                        each.add_rest(block, x)
                for each in reductions:
                    each.end_row(block)
            with T.serial(0, blocks) as block:
                for each in reductions:
                    each.store(block, i * nb + j0 + block)
    return made.result


class _Reduction:
    """Of each of some blocks a number, by lanes within a row, then over rows.

    Partial results of each row keep the rounding of sums to that of (columns / lanes + rows)
    additions.

    Parameters
    ----------
    result
        Where the numbers go.
    kept, first
        Room for partial results, from an element on.
    combine
        Of two partial results; its neutral element is 0.
    value
        Of an element, or of a vector of them.
    finish
        Of what is combined of all.
    """

    def __init__(
        self,
        result: Any,
        kept: Any,
        first: int,
        combine: Callable[[Any, Any], Any],
        value: Callable[[Any], Any],
        finish: Callable[[Any], Any],
    ) -> None:
        self._result, self._combine, self._value, self._finish = result, combine, value, finish
        self._kept, self._first = kept, first
        self._row = local(_NORM_LANES, "float64")
        self._one = local(1, "float64")

    def clear(self, blocks: Any) -> None:
        with T.serial(0, blocks) as block:
            nothing = constant(0.0, "float64", _NORM_LANES)
            T.buffer_store(self._kept, nothing, [self._lanes(block)])
            T.buffer_store(self._kept, constant(0.0, "float64"), [self._rest(block)])

    def begin_row(self) -> None:
        put(self._row, constant(0.0, "float64", _NORM_LANES), _NORM_LANES)

    def add(self, x: Any) -> None:
        put(self._row, self._combine(whole(self._row, _NORM_LANES), self._value(x)), _NORM_LANES)

    def add_rest(self, block: Any, x: Any) -> None:
        """The elements of a row that do not fill a vector."""
        value = self._combine(self._kept[self._rest(block)], self._value(x))
        T.buffer_store(self._kept, value, [self._rest(block)])

    def end_row(self, block: Any) -> None:
        row = self._combine(self._kept[self._lanes(block)], whole(self._row, _NORM_LANES))
        T.buffer_store(self._kept, row, [self._lanes(block)])

    def store(self, block: Any, place: Any) -> None:
        put(self._one, self._kept[self._rest(block)], 1)
        for lane in range(_NORM_LANES):
            element = self._kept[block * _NORM_LANES + (self._first + lane)]
            put(self._one, self._combine(self._one[zero()], element), 1)
        T.buffer_store(self._result, self._finish(self._one[zero()]), [place])

    def _lanes(self, block: Any) -> Any:
        return at(block * _NORM_LANES + self._first, _NORM_LANES)

    def _rest(self, block: Any) -> Any:
        return block + (self._first + _BLOCKS * _NORM_LANES)
