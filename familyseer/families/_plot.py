"""Draws the similarity graph of a model's subgraphs, coloured by family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError
from familyseer.families._base import Family
from familyseer.families._features import structural_features
from familyseer.families._graph import similarity_graph
from familyseer.subgraphs import Subgraph

if TYPE_CHECKING:
    import networkx

EXTENSIONS = ("png", "svg", "pdf")
_LEGEND_MEMBERS = 14
# without the date the same families give the same file
_METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def plot_families(
    subgraphs: Sequence[Subgraph], families: Sequence[Family], path: str | Path
) -> None:
    """Writes the picture; its format is `path`'s extension: png, svg or pdf.

    A node is a subgraph, its number `Subgraph.index`, its area a share of the model's flops; an
    edge is a similarity at which the method ``graph`` links, darker the closer.

    Raises
    ------
    UserError
        The extension is another, the file cannot be written, or `families` leave a subgraph out.
    """
    path = Path(path)
    extension = path.suffix.lower().removeprefix(".")
    if extension not in EXTENSIONS:
        raise UserError(
            f"{path}: cannot plot to {path.suffix or 'no extension'!r}, expected .png, .svg or .pdf"
        )
    family_of = {index: f for f, family in enumerate(families) for index in family.members}
    missing = [s.name for s in subgraphs if s.index not in family_of]
    if missing:
        raise UserError(f"{missing[0]} is in no family, expected every subgraph to be in one")

    graph = similarity_graph([structural_features(s.mod, s.name) for s in subgraphs])
    groups = [
        [i for i, s in enumerate(subgraphs) if family_of[s.index] == f]
        for f in range(len(families))
    ]
    figure = _draw(graph, groups, subgraphs, families)

    import matplotlib as mpl

    try:
        with mpl.rc_context({"svg.hashsalt": "familyseer"}):
            figure.savefig(path, format=extension, dpi=130, metadata=_METADATA[extension])
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}), expected a writable file"
        ) from error


def _draw(
    graph: networkx.Graph,
    groups: Sequence[Sequence[int]],
    subgraphs: Sequence[Subgraph],
    families: Sequence[Family],
) -> Any:
    import networkx as nx
    from matplotlib.figure import Figure

    positions, extent = _positions([len(group) for group in groups], groups)
    figure = Figure(figsize=(11.5, 7.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_title(f"{len(subgraphs)} subgraphs in {len(families)} families", loc="left")
    edges = list(graph.edges(data="weight"))
    if edges:
        drawn = nx.draw_networkx_edges(
            graph,
            positions,
            edgelist=[(a, b) for a, b, _ in edges],
            edge_color=[weight for _, _, weight in edges],
            edge_cmap=_colormap("Greys"),
            edge_vmin=0.6,
            edge_vmax=1.5,
            width=0.6,
            ax=axes,
        )
        drawn.set_zorder(1)
    # points across one position unit, so that the circles of neighbours touch but do not overlap
    unit = 72 * 6.2 / extent
    total = sum(s.flops * s.weight for s in subgraphs) or 1.0
    for f, group in enumerate(groups):
        shares = [subgraphs[i].flops * subgraphs[i].weight / total for i in group]
        widths = [unit * (0.5 + 0.4 * min(1.0, math.sqrt(4 * share))) for share in shares]
        nodes = nx.draw_networkx_nodes(
            graph,
            positions,
            nodelist=list(group),
            node_size=[min(width, 44.0) ** 2 for width in widths],
            node_color=[_colour(f, len(groups))],
            edgecolors="#333333",
            linewidths=0.5,
            ax=axes,
            label=_label(families[f], shares),
        )
        nodes.set_zorder(2)
    nx.draw_networkx_labels(
        graph,
        positions,
        {i: str(subgraphs[i].index) for group in groups for i in group},
        font_size=max(4.0, min(9.0, 0.28 * unit)),
        ax=axes,
    )
    _legend(figure, axes)
    return figure


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    legend = figure.legend(
        handles,
        labels,
        loc="outside right upper",
        frameon=False,
        fontsize=max(4.0, min(8.0, 220 / len(labels))),
        title="family: subgraphs (share of operations)",
        title_fontsize=8,
        alignment="left",
    )
    for handle in legend.legend_handles:
        handle.set_sizes([50.0])


def _positions(
    sizes: Sequence[int], groups: Sequence[Sequence[int]]
) -> tuple[dict[int, tuple[float, float]], float]:
    """Each family as a sunflower of unit spacing, the families in rows; and the picture's width."""
    radii = [max(1.0, math.sqrt(size)) * 0.66 + 0.5 for size in sizes]
    width = max([2 * r for r in radii] + [1.25 * math.sqrt(sum(4 * r * r for r in radii))])
    positions: dict[int, tuple[float, float]] = {}
    x, top, row = 0.0, 0.0, 0.0
    for radius, group in zip(radii, groups, strict=True):
        if x > 0 and x + 2 * radius > width:
            x, top, row = 0.0, top - row, 0.0
        for place, node in enumerate(group):
            distance = 0.62 * math.sqrt(place + 0.25 if len(group) > 1 else 0.0)
            angle = place * math.pi * (3 - math.sqrt(5))
            positions[node] = (
                x + radius + distance * math.cos(angle),
                top - radius + distance * math.sin(angle),
            )
        x += 2 * radius
        row = max(row, 2 * radius)
    return positions, max(width, row - top, 1.0)


def _label(family: Family, shares: Sequence[float]) -> str:
    shown = ", ".join(str(index) for index in family.members[:_LEGEND_MEMBERS])
    more = len(family.members) - _LEGEND_MEMBERS
    return f"{family.name}: {shown}{f' and {more} more' if more > 0 else ''} ({sum(shares):.1%})"


def _colour(position: int, families: int) -> Any:
    if families <= 20:
        return _colormap("tab20")((position * 2 % 20 + position // 10) % 20)
    red, green, blue, _ = _colormap("hsv")(position / families)
    # lightened, so that the numbers on the nodes can be read
    return tuple(0.45 + 0.55 * part for part in (red, green, blue))


def _colormap(name: str) -> Any:
    import matplotlib as mpl

    return mpl.colormaps[name]
