"""Families by sequence of operations, fused epilogue included (arXiv 2201.00194, "hash")."""

from __future__ import annotations

from collections.abc import Sequence

from familyseer.families._base import group_by
from familyseer.families._features import StructuralFeatures


def by_sequence(features: Sequence[StructuralFeatures], /) -> list[list[int]]:
    """Groups subgraphs whose stages compute the same operations in the same order."""
    return group_by([f.sequence for f in features])
