"""The facts of families and their members that tables, reports and ``families.json`` show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.families._base import Family
from familyseer.families._features import structural_features
from familyseer.families._tir import entry_function
from familyseer.subgraphs import Subgraph


@dataclass(frozen=True)
class MemberRow:
    """One subgraph of a family.

    Attributes
    ----------
    index, key, name, weight, flops
        As `Subgraph`.
    share
        Of the model's floating-point operations (flops x weight), in [0, 1].
    operations
        What its stages compute, in order.
    shapes, dtypes
        Of the function's tensors, inputs then outputs; -1 is a symbolic extent.
    """

    index: int
    key: str
    name: str
    weight: int
    flops: float
    share: float
    operations: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class FamilyRow:
    """A family, its share of the model's floating-point operations, its members heaviest first."""

    family: Family
    share: float
    members: tuple[MemberRow, ...]


def families_table(families: Sequence[Family], subgraphs: Sequence[Subgraph]) -> list[FamilyRow]:
    """The rows of a table of families, in the order of `families`.

    Raises
    ------
    ValueError
        A family names a subgraph that is not among `subgraphs`.
    """
    by_index = {s.index: s for s in subgraphs}
    total = sum(s.flops * s.weight for s in subgraphs) or 1.0
    rows = []
    for family in families:
        missing = [i for i in family.members if i not in by_index]
        if missing:
            raise ValueError(
                f"family {family.name!r} names subgraph {missing[0]}, which is unknown"
            )
        members = [_member(by_index[i], total) for i in family.members]
        members.sort(key=lambda m: (-m.share, m.index))
        rows.append(FamilyRow(family, sum(m.share for m in members), tuple(members)))
    return rows


def _member(subgraph: Subgraph, total: float) -> MemberRow:
    tensors = _tensors(subgraph)
    return MemberRow(
        index=subgraph.index,
        key=subgraph.key,
        name=subgraph.name,
        weight=subgraph.weight,
        flops=subgraph.flops,
        share=subgraph.flops * subgraph.weight / total,
        operations=structural_features(subgraph.mod, subgraph.name).sequence,
        shapes=tuple(shape for shape, _ in tensors),
        dtypes=tuple(dtype for _, dtype in tensors),
    )


def _tensors(subgraph: Subgraph) -> list[tuple[tuple[int, ...], str]]:
    params = entry_function(subgraph.mod, subgraph.name).params
    types: list[Any] = [param.ty for param in params]
    return [
        (tuple(int(getattr(extent, "value", -1)) for extent in ty.shape), str(ty.dtype))
        for ty in types
        if hasattr(ty, "shape")
    ]
