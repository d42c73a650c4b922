"""Families: subgraphs that share a cost model and learn from each other's measurements."""

from familyseer.families._base import Family, Method
from familyseer.families._document import families_json, load_families, validate_families
from familyseer.families._features import (
    VECTOR_FIELDS,
    Reach,
    StructuralFeatures,
    structural_features,
)
from familyseer.families._form import METHODS, form_families
from familyseer.families._plot import plot_families
from familyseer.families._table import FamilyRow, MemberRow, families_table

__all__ = [
    "METHODS",
    "VECTOR_FIELDS",
    "Family",
    "FamilyRow",
    "MemberRow",
    "Method",
    "Reach",
    "StructuralFeatures",
    "families_json",
    "families_table",
    "form_families",
    "load_families",
    "plot_families",
    "structural_features",
    "validate_families",
]
