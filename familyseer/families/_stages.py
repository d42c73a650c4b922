"""A subgraph as plain facts: stages, their axes, what they load and compute; no TVM object."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One loop of a stage: its extent (1 if symbolic) and whether it reduces."""

    extent: int
    reduces: bool


@dataclass(frozen=True)
class Index:
    """The index of one dimension of an access.

    Attributes
    ----------
    steps
        ``(axis, coefficient)`` for the axes that enter linearly.
    bent
        Axes that enter through a division, a remainder or a lookup.
    indirect
        Whether the index is itself read from a tensor.
    """

    steps: tuple[tuple[int, int], ...]
    bent: frozenset[int]
    indirect: bool

    def axes(self) -> set[int]:
        """Every axis the index depends on."""
        return {axis for axis, _ in self.steps} | self.bent


@dataclass(frozen=True)
class Access:
    """A load or a store: its tensor (equal numbers, equal tensors), shape, type and indices."""

    tensor: int
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[Index, ...]

    def axes(self) -> set[int]:
        """Every axis that moves the access."""
        return {axis for dim in self.dims for axis in dim.axes()}

    def elements(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    def step(self, axis: int) -> int | None:
        """Elements that one step of `axis` moves in row-major memory; None if not a constant."""
        total, size = 0, 1
        for dim, extent in zip(reversed(self.dims), reversed(self.shape), strict=True):
            if axis in dim.bent:
                return None
            total += size * dict(dim.steps).get(axis, 0)
            size *= extent
        return total


@dataclass(frozen=True)
class Stage:
    """One block of the subgraph.

    Attributes
    ----------
    axes
        Its loops, outermost first.
    reads
        Distinct loads, the stage's own accumulator left out.
    writes
        Its stores.
    operations
        What the body computes, outermost operation first; index arithmetic is left out.
    guarded
        A value is chosen by a test on the indices (padding, concatenation).
    factors
        The first two different tensors (`Access.tensor`) whose elements are multiplied, if any.
    """

    axes: tuple[Axis, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    operations: tuple[str, ...]
    guarded: bool
    factors: tuple[int, int] | None = None

    @property
    def reduces(self) -> bool:
        """Whether any axis is reduced over."""
        return any(axis.reduces for axis in self.axes)

    def iterations(self, *, reducing: bool | None = None) -> int:
        """Product of the extents, of all axes or only those that (do not) reduce."""
        return math.prod(a.extent for a in self.axes if reducing in (None, a.reduces))

    def work(self) -> int:
        """Iterations times operations, the store counted as one."""
        return self.iterations() * (1 + len(self.operations))

    def copies_in_place(self) -> bool:
        """Whether the stage only copies each element to the same indices."""
        return (
            not self.operations
            and not self.guarded
            and len(self.reads) == 1
            and all(self.reads[0].dims == store.dims for store in self.writes)
        )
