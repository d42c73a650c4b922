"""Frobenius norms of a matrix's blocks, in float64."""

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
# Float64 squares stay clear of under- and overflow when the block's largest element lies between
# these; otherwise elements are scaled by a power of two, which is exact.
_SMALL, _LARGE = 2.0**-400, 2.0**400
_SCALE = 2.0**600


def norms_function(dtype: str) -> Any:
    """``norms(...)``: Frobenius norms in float64 of the blocks of rows first <= i < last.

    A sum of squares that is NaN stays one. Parameters: the matrix, unit stride along rows and
    `stride` elements from row to row; the norms (mb, nb); then first, last, stride, m, n and the
    block's rows and columns.
    """
    with function("norms") as made:
        (source, norms), sizes = parameters(
            {"source": dtype, "norms": "float64"}, "first last stride m n rows columns"
        )
        first, last, stride, m, n, rows, columns = sizes
        block = _Block(source, dtype, stride)
        nb = T.Bind(ceil_quotient(n, columns))
        with loop(first, last) as i, T.serial(0, nb) as j:
            block.enter(
                i * rows * stride + j * columns,
                T.Bind(T.min(rows, m - i * rows)),
                T.Bind(T.min(columns, n - j * columns)),
            )
            scale: Any = None
            if dtype == "float64":
                scale = _scale(block.reduce(tirx.max, lambda x, _: tirx.abs(x)))

            def square(x: Any, lanes: int, scale: Any = scale) -> Any:
                if scale is None:
                    return x * x
                factor = tirx.Broadcast(scale, lanes) if lanes > 1 else scale
                return (x * factor) * (x * factor)

            root = tirx.sqrt(block.reduce(lambda x, y: x + y, square))
            T.buffer_store(norms, root if scale is None else root / scale, [i * nb + j])
    return made.result


def _scale(peak: Any) -> Any:
    """The factor that keeps squares of numbers up to `peak` in range."""
    value = T.Bind(peak)
    down, up = constant(1 / _SCALE, "float64"), constant(_SCALE, "float64")
    shrunk = tirx.Select(value > constant(_LARGE, "float64"), down, constant(1.0, "float64"))
    return T.Bind(tirx.Select(value < constant(_SMALL, "float64"), up, shrunk))


class _Block:
    """A block of a matrix to be reduced: by lanes within a row, then over rows.

    Partial results of each row keep the rounding of sums to that of (columns / lanes + rows)
    additions.
    """

    def __init__(self, source: Any, dtype: str, stride: Any) -> None:
        self._source, self._stride = source, stride
        self._convert = widen(dtype, "float64")
        self._row = local(_NORM_LANES, "float64")
        self._all = local(_NORM_LANES, "float64")
        self._rest = local(1, "float64")
        self._result = local(1, "float64")

    def enter(self, start: Any, rows: Any, columns: Any) -> None:
        """The block that the next reductions read."""
        self._start, self._rows, self._columns = T.Bind(start), rows, columns

    def reduce(self, combine: Callable[[Any, Any], Any], value: Callable[[Any, int], Any]) -> Any:
        """Reduces ``value(x, lanes)`` of all elements with `combine`; its neutral element is 0."""
        lanes = _NORM_LANES
        put(self._all, constant(0.0, "float64", lanes), lanes)
        put(self._rest, constant(0.0, "float64"), 1)
        vectors = T.Bind(quotient(self._columns, lanes))
        with T.serial(0, self._rows) as r:
            origin = T.Bind(self._start + r * self._stride)
            put(self._row, constant(0.0, "float64", lanes), lanes)
            with T.serial(0, vectors) as v:
                x = T.Bind(self._convert(self._source[at(origin + v * lanes, lanes)], lanes))
                put(self._row, combine(whole(self._row, lanes), value(x, lanes)), lanes)
            put(self._all, combine(whole(self._all, lanes), whole(self._row, lanes)), lanes)
            with loop(vectors * lanes, self._columns) as s:
                x = T.Bind(self._convert(self._source[origin + s], 1))
                put(self._rest, combine(self._rest[zero()], value(x, 1)), 1)
        put(self._result, self._rest[zero()], 1)
        for lane in range(lanes):
            element = self._all[tirx.IntImm("int64", lane)]
            put(self._result, combine(self._result[zero()], element), 1)
        return self._result[zero()]
