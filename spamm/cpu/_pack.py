"""Packing of the operands into panels, as the multiplication reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        panels = T.Bind(ceil_quotient(block, panel))
        emit = Packing(source, packed, panel, lanes, widen(dtype, sums), sums)
        with loop(first, last) as q:
            p0, k0 = T.Bind(blocks_p[q] * block), T.Bind(blocks_k[q] * block_k)
            width, steps = T.Bind(T.min(block, size - p0)), T.Bind(T.min(block_k, depth - k0))
            emit.block((q * panels, block_k), (p0, k0), (width, steps), stride, along)
    return made.result


@dataclass(frozen=True)
class Packing:
    """Emits what packs a block; the attributes are parameters of `pack_function`, or its arrays.

    Attributes
    ----------
    convert
        `spamm.cpu._emit.widen` from the operand's type to that of the sums.
    """

    source: Any
    packed: Any
    panel: int
    lanes: int
    convert: Callable[[Any, int], Any]
    sums: str

    def block(
        self,
        place: tuple[Any, Any],
        first: tuple[Any, Any],
        extent: tuple[Any, Any],
        stride: Any,
        along: bool,
    ) -> None:
        """Packs a block of the operand.

        Parameters
        ----------
        place
            Number of its first panel, and steps along k of a whole block.
        first, extent
            Its first element and how many there are, along the panel's direction and along k.
        """
        (panels, block_k), (p0, k0), (width, steps) = place, first, extent
        source, packed, panel, convert = self.source, self.packed, self.panel, self.convert
        with T.serial(0, ceil_quotient(width, panel)) as number:
            start = T.Bind(p0 + number * panel)
            to = T.Bind((panels + number) * block_k * panel)
            inside = T.Bind(T.min(width - number * panel, panel))
            if along:
                with T.serial(0, steps) as t:
                    origin, target = (k0 + t) * stride + start, to + t * panel
                    with T.If(inside == panel):
                        with T.Then():
                            for v in range(0, panel, self.lanes):
                                value = convert(source[at(origin + v, self.lanes)], self.lanes)
                                T.buffer_store(packed, value, [at(target + v, self.lanes)])
                        with T.Else():
                            with T.serial(0, inside) as s:
                                value = convert(source[origin + s], 1)
                                T.buffer_store(packed, value, [target + s])
                            with loop(inside, panel) as s:
                                T.buffer_store(packed, constant(0.0, self.sums), [target + s])
            else:
                with T.serial(0, inside) as s, T.serial(0, steps) as t:
                    value = convert(source[(start + s) * stride + k0 + t], 1)
                    T.buffer_store(packed, value, [to + t * panel + s])
                with loop(inside, panel) as s, T.serial(0, steps) as t:
                    T.buffer_store(packed, constant(0.0, self.sums), [to + t * panel + s])
