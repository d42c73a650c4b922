"""No families: a cost model a subgraph (arXiv 2201.00194, "ind")."""

from __future__ import annotations

from collections.abc import Sequence

from familyseer.families._features import StructuralFeatures


def each_alone(features: Sequence[StructuralFeatures], /) -> list[list[int]]:
    """One group a subgraph."""
    return [[position] for position in range(len(features))]
