"""What the search does beyond sampling and ranking; each can be switched off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Tactics:
    """Switches of the search, all on by default.

    Attributes
    ----------
    shared
        A model of all families, fused with each family's own (`costmodels._fusion`).
    own
        A model of each family.
    local
        What a subgraph's own measurements say beside the boosters, and candidates chosen by
        expected improvement (`costmodels._local`).
    seeds
        Siblings' best traces, re-fitted, are tried first and bred from; what a sibling finds later
        is measured in those that have stalled.
    adaptive
        A round is as long as the model's recent predictions deserve.
    cascade
        Decisions are sieved by a small model before they are applied.
    foresee
        After a round a sibling gets a few measurements (FamilySeer, arXiv 2201.00194).
    confirm
        A candidate that seems the best is timed again beside the one it would replace.
    """

    shared: bool = True
    own: bool = True
    local: bool = True
    seeds: bool = True
    adaptive: bool = True
    cascade: bool = True
    foresee: bool = True
    confirm: bool = True

    @classmethod
    def names(cls) -> list[str]:
        """Every switch."""
        return [field.name for field in fields(cls)]

    def off(self) -> list[str]:
        """The switches that are off."""
        return [name for name in self.names() if not getattr(self, name)]

    @classmethod
    def without(cls, names: Iterable[str]) -> Tactics:
        """All but some."""
        return cls(**dict.fromkeys(names, False))
