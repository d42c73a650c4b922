"""Packing of the operands into panels, as the multiplication reads them."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script import builder as T  # noqa: N812

from spamm.cpu._emit import (
    at,
    ceil_quotient,
    constant,
    function,
    loop,
    parameters,
    widen,
)


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
        with loop(first, last) as q:
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
                                with loop(inside, panel) as s:
                                    T.buffer_store(packed, constant(0.0, sums), [target + s])
                else:
                    with T.serial(0, inside) as s, T.serial(0, steps) as t:
                        value = convert(source[(start + s) * stride + k0 + t], 1)
                        T.buffer_store(packed, value, [to + t * panel + s])
                    with loop(inside, panel) as s, T.serial(0, steps) as t:
                        T.buffer_store(packed, constant(0.0, sums), [to + t * panel + s])
    return made.result
