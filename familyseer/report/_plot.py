"""What a plot shows, apart from how it is drawn: on the page, and to files by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from familyseer.report._axes import Axis

# of a line: a screen has no more columns, and a page is to stay small
_MOST_POINTS = 800


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes
    ----------
    name
        For the legend; empty for none.
    kind
        ``steps`` hold their value until the next point, ``line`` and ``level`` connect points (a
        level is a mark to compare with), ``dots`` stand alone.
    points
        In the order of x.
    colour
        Which of the colours, from 0.
    tips
        What is said of each point, empty for nothing.
    """

    name: str
    kind: Literal["steps", "line", "level", "dots"]
    points: tuple[tuple[float, float], ...]
    colour: int
    tips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Series over two scales."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Bars:
    """Parts of a whole: for each its name, its value and that as text."""

    parts: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; the columns in `right` hold numbers. The first names its row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A plot with all that makes it readable without eyes.

    Attributes
    ----------
    key
        A word for identifiers and file names.
    title
        What is plotted.
    description
        What is to be seen in it, in sentences.
    plot
        The plot.
    table
        Its data.
    notes
        What a reader should know of how the data came about.
    """

    key: str
    title: str
    description: str
    plot: Chart | Bars
    table: Table
    notes: tuple[str, ...] = ()


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points without those that repeat the value before them; at most as many as can be seen."""
    kept = [p for i, p in enumerate(points) if i == 0 or p[1] != points[i - 1][1]]
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    every = max(1, -(-len(kept) // _MOST_POINTS))
    return (*kept[:-1][::every], *kept[-1:])
