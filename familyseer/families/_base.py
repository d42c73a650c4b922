"""What a family is, and the contract of a method that forms families.

A method is a function. It is given the structural features of the model's subgraphs, in a
canonical order that depends on neither the order nor the names in which the subgraphs came. It
returns groups of positions in that list: every position in exactly one group, no group empty. It
may be asked again at any time and must answer the same. It neither orders nor names its groups;
`form_families` does, heaviest first.

The members of a family share one cost model and learn from each other's measurements, so a method
should put together what wants similar schedules, whatever its size, and keep apart what does not:
a model fed with unlike subgraphs is worse than one fed with fewer (arXiv 2201.00194, section on
identifying similar subgraphs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from familyseer.families._features import StructuralFeatures


@dataclass(frozen=True)
class Family:
    """Subgraphs that share a cost model.

    Attributes
    ----------
    name
        Short, unique in its list, safe as a file name, such as ``conv2d-3x3``.
    members
        `Subgraph.index` of each member, ascending.
    reason
        One sentence: why they belong together.
    """

    name: str
    members: tuple[int, ...]
    reason: str


class Method(Protocol):
    """Groups positions of `features`; see the module's docstring for the contract."""

    def __call__(self, features: Sequence[StructuralFeatures], /) -> list[list[int]]:
        """Groups of positions, a partition of ``range(len(features))``."""
        ...


def group_by(keys: Sequence[object]) -> list[list[int]]:
    """Positions of equal keys together, in the order of first appearance."""
    groups: dict[object, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return list(groups.values())
