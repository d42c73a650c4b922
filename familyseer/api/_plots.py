"""Plots of a run as figures that a notebook shows and a program saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_run(out: Path, key: str) -> Figure:
    """A plot of a run's report by its key: ``latency``, ``time``, ``accuracy`` or ``roofline``.

    Raises
    ------
    UserError
        The run has no data for it.
    """
    from familyseer.report._figures import figures
    from familyseer.report._plots import draw
    from familyseer.report._read import read_run

    for figure in figures(read_run(out)):
        if figure.key == key:
            drawn: Figure = draw(figure)
            return drawn
    raise UserError(f"{out}: the run has no data for a plot of its {key}")


def draw_families(families: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar a family, in pieces of its subgraphs, by their share of the model's operations.

    Parameters
    ----------
    families
        As ``families.json`` has them.
    """
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import PercentFormatter

    canvas = Canvas(figsize=(7.0, 1.2 + 0.36 * max(1, len(families))), layout="constrained")
    axes = canvas.add_subplot()
    for row, family in enumerate(families):
        left = 0.0
        for piece in family["subgraphs"]:
            axes.barh(row, piece["share"], left=left, color=f"C{row % 10}", edgecolor="white")
            left += piece["share"]
        count = len(family["subgraphs"])
        axes.annotate(f" {family['share']:.0%}, {count}", (left, row), va="center", fontsize=9)
    axes.set_yticks(range(len(families)), [str(family["name"]) for family in families])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the model's operations, and number of subgraphs")
    axes.set_title("Families", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return canvas
