"""A tile of a product in a CPU's registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

from spamm.cpu._emit import at, constant, local, loop, put, whole

# steps along k that are written out in the inner loop
_UNROLL = 4


class Tile:
    """A tile of C in registers: `rows` times `vectors` vectors of sums."""

    def __init__(self, rows: int, vectors: int, lanes: int, sums: str) -> None:
        self._lanes, self._sums = lanes, sums
        self._vectors = [[local(lanes, sums) for _ in range(vectors)] for _ in range(rows)]
        self._edge = local(lanes, sums)

    def clear(self) -> None:
        """Sets the sums to zero."""
        lanes = self._lanes
        for row in self._vectors:
            for vector in row:
                put(vector, constant(0.0, self._sums, lanes), lanes)

    def add(
        self,
        factor: Callable[[Any, int], Any],
        row: Callable[[Any], Callable[[int], Any]],
        depth: Any,
    ) -> None:
        """Adds products of `factor(step, r)` and the vectors `row(step)(v)` over `depth` steps."""
        groups = T.Bind(tirx.truncdiv(depth, _UNROLL))
        with T.serial(0, groups) as group:
            for step in range(_UNROLL):
                self._step(factor, row, T.Bind(group * _UNROLL + step))
        with loop(groups * _UNROLL, depth) as step:
            self._step(factor, row, step)

    def _step(
        self,
        factor: Callable[[Any, int], Any],
        row: Callable[[Any], Callable[[int], Any]],
        step: Any,
    ) -> None:
        lanes = self._lanes
        vector_of = row(step)
        parts = [T.Bind(vector_of(v)) for v in range(len(self._vectors[0]))]
        for r, sums in enumerate(self._vectors):
            one = factor(step, r)
            for vector, part in zip(sums, parts, strict=True):
                product = tirx.Broadcast(one, lanes) * part if lanes > 1 else one * part
                put(vector, whole(vector, lanes) + product, lanes)

    def store(self, out: Any, origin: Any, stride: int, rows: Any, columns: Any) -> None:
        """Writes the tile, or as many rows or columns of it as there are (None for all)."""
        lanes = self._lanes
        for r, row in enumerate(self._vectors):
            for v, vector in enumerate(row):
                to = origin + r * stride + v * lanes
                if rows is not None:
                    with T.If(rows > r), T.Then():
                        T.buffer_store(out, whole(vector, lanes), [at(to, lanes)])
                else:
                    with T.If(columns >= (v + 1) * lanes):
                        with T.Then():
                            T.buffer_store(out, whole(vector, lanes), [at(to, lanes)])
                        with T.Else():
                            # an index that is not constant would take the sums out of registers
                            put(self._edge, whole(vector, lanes), lanes)
                            with T.serial(0, T.max(0, columns - v * lanes)) as s:
                                T.buffer_store(out, self._edge[s], [to + s])


def index(value: int) -> Any:
    """A constant of the type of indices."""
    return tirx.IntImm("int64", value)


def wide(value: Any) -> Any:
    """An integer as an index."""
    return T.Cast("int64", value)
