"""From subgraphs to ordered, named families, by any method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from familyseer.errors import UserError
from familyseer.families._base import Family, Method
from familyseer.families._features import StructuralFeatures, structural_features
from familyseer.families._graph import LINK_ABOVE, by_similarity
from familyseer.families._none import each_alone
from familyseer.families._op import by_operation
from familyseer.families._sequence import by_sequence
from familyseer.families._words import (
    operation_name,
    sequence_name,
    shared_structure,
    structure_name,
    unique_names,
)
from familyseer.subgraphs import Subgraph

METHODS = ("op", "sequence", "graph", "none")

Namer = Callable[[Sequence[StructuralFeatures]], str]


def form_families(
    subgraphs: Sequence[Subgraph],
    method: str = "op",
    *,
    link_above: float = LINK_ABOVE,
    seed: int = 0,
) -> list[Family]:
    """Groups subgraphs into families.

    The result depends on the TIR alone, not on names or on the order of `subgraphs`.

    Parameters
    ----------
    subgraphs
        Tasks of any origin; their ``index`` must be unique.
    method
        ``graph``: communities of a graph of structural similarity; ``op``: by core operation, and
        ``sequence``: by sequence of operations, as in the FamilySeer paper (arXiv 2201.00194);
        ``none``: one a subgraph.
    link_above
        For ``graph``: least similarity, in (0, 1], of subgraphs that may be linked; higher makes
        more and smaller families.
    seed
        For ``graph``: of the community search.

    Returns
    -------
    list of Family
        Every subgraph in exactly one, heaviest (flops x weight, summed) first.

    Raises
    ------
    UserError
        The method is unknown, `link_above` is out of range, an index occurs twice, or a subgraph
        has no TIR function.
    """
    if method not in METHODS:
        raise UserError(
            f"family method {method!r} is unknown, expected one of {', '.join(METHODS)}"
        )
    if not 0.0 < link_above <= 1.0:
        raise UserError(f"link_above is {link_above}, expected more than 0 and at most 1")
    if len({s.index for s in subgraphs}) < len(subgraphs):
        raise UserError("two subgraphs have the same index, expected each to have its own")

    known = {s.index: structural_features(s.mod, s.name) for s in subgraphs}
    ordered = sorted(subgraphs, key=lambda s: (known[s.index].sort_key(), s.key, s.index))
    groups = _grouping(method, link_above, seed)([known[s.index] for s in ordered])
    families = [_heaviest_first([ordered[i] for i in group]) for group in groups]
    features = [[known[s.index] for s in members] for members in families]
    order = sorted(
        range(len(families)), key=lambda i: (-_load(families[i]), features[i][0].sort_key(), i)
    )
    families, features = [families[i] for i in order], [features[i] for i in order]
    names = _names(method, families, features)
    return [
        Family(name, tuple(sorted(s.index for s in members)), _reason(method, facts))
        for name, members, facts in zip(names, families, features, strict=True)
    ]


def _grouping(method: str, link_above: float, seed: int) -> Method:
    groupings: dict[str, Method] = {
        "graph": partial(by_similarity, link_above=link_above, seed=seed),
        "op": by_operation,
        "sequence": by_sequence,
        "none": each_alone,
    }
    return groupings[method]


def _names(
    method: str,
    families: Sequence[Sequence[Subgraph]],
    features: Sequence[Sequence[StructuralFeatures]],
) -> list[str]:
    if method == "none":
        # the key, not a number, so that the same subgraph has the same name in another model
        names = [
            f"{structure_name(facts)}-{members[0].key[:8]}"
            for members, facts in zip(families, features, strict=True)
        ]
        return unique_names(names, features)
    namers: dict[str, Namer] = {
        "graph": structure_name,
        "op": operation_name,
        "sequence": sequence_name,
    }
    return unique_names([namers[method](facts) for facts in features], features)


def _reason(method: str, features: Sequence[StructuralFeatures]) -> str:
    shared = shared_structure(features)
    if method == "none":
        return f"On its own, as families are off: {shared}."
    if method == "op":
        return f"Same core operation, {operation_name(features)}: {shared}."
    if method == "sequence":
        return f"Same operations in the same order, {' then '.join(features[0].sequence)}."
    if len(features) == 1:
        return f"Unlike every other subgraph: {shared}."
    return f"{shared[0].upper()}{shared[1:]}."


def _heaviest_first(members: list[Subgraph]) -> list[Subgraph]:
    return sorted(members, key=lambda s: -s.flops * s.weight)


def _load(members: Sequence[Subgraph]) -> float:
    return sum(s.flops * s.weight for s in members)
