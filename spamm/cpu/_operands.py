"""Functions that read the operands: packing into panels, norms of blocks."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

from spamm.cpu._emit import (
    at,
    ceil_quotient,
    constant,
    function,
    local,
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


def pack_function(name: str, panel: int, lanes: int, dtype: str, sums: str, along: bool) -> Any:
    """A function that packs blocks of an operand, converted to the type of the sums.

    Along the panel's direction (rows of A, columns of B) the operand has `size` elements in
    blocks of `block`; across, which is k, it has `depth` in blocks of `block_k`. Blocks are given
    by their indices in both directions, block number q goes to place q, and panels that overhang
    `size` are filled with zeros.

    Parameters
    ----------
    name
        What the function is called.
    panel
        Elements of a panel for each k.
    lanes
        Elements that are copied at a time; divides `panel` where `along` is set.
    dtype, sums
        Type of the operand and type it is packed as.
    along
        Whether neighbours in memory follow the panel's direction; else they follow k. The other
        direction has a stride of `stride` elements.
    """
    with function(name) as made:
        pointers = {"source": dtype, "packed": sums, "blocks_p": "int64", "blocks_k": "int64"}
        (source, packed, blocks_p, blocks_k), sizes = parameters(
            pointers, "first last stride size depth block block_k"
        )
        first, last, stride, size, depth, block, block_k = sizes
        convert = widen(dtype, sums)
        panels = T.Bind(ceil_quotient(block, panel))
        with T.serial(first, last) as q:
            p0, k0 = T.Bind(blocks_p[q] * block), T.Bind(blocks_k[q] * block_k)
            width, steps = T.Bind(T.min(block, size - p0)), T.Bind(T.min(block_k, depth - k0))
            with T.serial(0, ceil_quotient(width, panel)) as number:
                start = T.Bind(p0 + number * panel)
                to = T.Bind((q * panels + number) * block_k * panel)
                inside = T.Bind(T.min(width - number * panel, panel))
                if along:
                    with T.serial(0, steps) as t:
                        origin, target = (k0 + t) * stride + start, to + t * panel
                        with T.If(inside == panel):
                            with T.Then():
                                for v in range(0, panel, lanes):
                                    value = convert(source[at(origin + v, lanes)], lanes)
                                    T.buffer_store(packed, value, [at(target + v, lanes)])
                            with T.Else():
                                with T.serial(0, inside) as s:
                                    value = convert(source[origin + s], 1)
                                    T.buffer_store(packed, value, [target + s])
                                with T.serial(inside, panel) as s:
                                    T.buffer_store(packed, constant(0.0, sums), [target + s])
                else:
                    with T.serial(0, inside) as s, T.serial(0, steps) as t:
                        value = convert(source[(start + s) * stride + k0 + t], 1)
                        T.buffer_store(packed, value, [to + t * panel + s])
                    with T.serial(inside, panel) as s, T.serial(0, steps) as t:
                        T.buffer_store(packed, constant(0.0, sums), [to + t * panel + s])
    return made.result


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
        with T.serial(first, last) as i, T.serial(0, nb) as j:
            block.enter(
                i * rows * stride + j * columns,
                T.Bind(T.min(rows, m - i * rows)),
                T.Bind(T.min(columns, n - j * columns)),
            )
            scale: Any = None
            if dtype == "float64":
                peak = T.Bind(block.reduce(tirx.max, lambda x, _: tirx.abs(x)))
                scale = T.Bind(
                    tirx.Select(
                        peak < constant(_SMALL, "float64"),
                        constant(_SCALE, "float64"),
                        tirx.Select(
                            peak > constant(_LARGE, "float64"),
                            constant(1 / _SCALE, "float64"),
                            constant(1.0, "float64"),
                        ),
                    )
                )

            def square(x: Any, lanes: int, scale: Any = scale) -> Any:
                if scale is None:
                    return x * x
                factor = tirx.Broadcast(scale, lanes) if lanes > 1 else scale
                return (x * factor) * (x * factor)

            root = tirx.sqrt(block.reduce(lambda x, y: x + y, square))
            T.buffer_store(norms, root if scale is None else root / scale, [i * nb + j])
    return made.result


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

    def reduce(self, combine: Any, value: Any) -> Any:
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
            with T.serial(vectors * lanes, self._columns) as s:
                x = T.Bind(self._convert(self._source[origin + s], 1))
                put(self._rest, combine(self._rest[zero()], value(x, 1)), 1)
        put(self._result, self._rest[zero()], 1)
        for lane in range(lanes):
            element = self._all[tirx.IntImm("int64", lane)]
            put(self._result, combine(self._result[zero()], element), 1)
        return self._result[zero()]
