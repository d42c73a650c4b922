"""Families as communities of a graph of structural similarity.

An edge joins two subgraphs whose features are close; its weight is their similarity. Each
connected part of the graph is divided by the Louvain method (Blondel et al., arXiv 0803.0476), so
that a chain of likenesses does not join unlike ends. Parts are divided one at a time: what else is
in the model does not change how, say, its convolutions are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from familyseer.families._features import StructuralFeatures

if TYPE_CHECKING:
    import networkx

LINK_ABOVE = 0.75
# Two equally large halves of a part are kept together while the mean similarity between them,
# absent edges counting 0, is above r / (2 - r) of that within: at r = 0.5 a third.
RESOLUTION = 0.5


def similarity_graph(
    features: Sequence[StructuralFeatures], *, link_above: float = LINK_ABOVE
) -> networkx.Graph:
    """The graph of similarity; nodes are positions in `features`.

    The similarity of two subgraphs at distance d in `StructuralFeatures.vector` is exp(-d^2 / 2),
    in (0, 1]; pairs of at least `link_above` get an edge with it as ``weight``.
    """
    import networkx as nx
    import numpy as np

    graph = nx.Graph()
    graph.add_nodes_from(range(len(features)))
    if not features:
        return graph
    vectors = np.stack([f.vector() for f in features])
    distance2 = np.square(vectors[:, None, :] - vectors[None, :, :]).sum(axis=-1)
    similarity = np.exp(-distance2 / 2)
    for i, j in zip(*np.nonzero(np.triu(similarity >= link_above, k=1)), strict=True):
        graph.add_edge(int(i), int(j), weight=float(similarity[i, j]))
    return graph


def by_similarity(
    features: Sequence[StructuralFeatures],
    /,
    *,
    link_above: float = LINK_ABOVE,
    resolution: float = RESOLUTION,
    seed: int = 0,
) -> list[list[int]]:
    """Groups subgraphs into communities of the similarity graph."""
    import networkx as nx

    graph = similarity_graph(features, link_above=link_above)
    groups: list[list[int]] = []
    for part in sorted(sorted(nodes) for nodes in nx.connected_components(graph)):
        # a copy: the nodes of a subgraph view come in the order of a hash table
        ordered = nx.Graph()
        ordered.add_nodes_from(part)
        ordered.add_edges_from(sorted(graph.subgraph(part).edges(data=True), key=lambda e: e[:2]))
        found = nx.community.louvain_communities(
            ordered, weight="weight", resolution=resolution, seed=seed
        )
        groups += sorted(sorted(community) for community in found)
    return groups
