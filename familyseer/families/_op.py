"""Families by core operation: the FamilySeer paper's recommended way (arXiv 2201.00194)."""

from __future__ import annotations

from collections.abc import Sequence

from familyseer.families._base import group_by
from familyseer.families._features import StructuralFeatures


def core_name(features: StructuralFeatures) -> str:
    """The operation as a model's author would call it, whatever its size."""
    # a product with one row is the same operation as one with many
    return "matmul" if features.operation == "matvec" else features.operation


def by_operation(features: Sequence[StructuralFeatures], /) -> list[list[int]]:
    """Groups subgraphs whose anchor computes the same operation."""
    return group_by([core_name(f) for f in features])
