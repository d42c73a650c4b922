"""Plots as SVG inside a page, coloured by the page's style so that they follow light and dark.

Matplotlib draws the files (see `familyseer.report._plots`); its SVG carries fixed colours, sizes in
points and identifiers of its own, which a page that adapts cannot use.
"""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree.ElementTree import Element

from familyseer.report._axes import Axis
from familyseer.report._html import tag
from familyseer.report._plot import Bars, Chart, Figure, Series

# in units of the drawing: small enough for letters to be read on a phone, where the drawing is
# scaled to seven eighths
_WIDTH, _HEIGHT = 360.0, 250.0
_RIGHT, _TOP, _BOTTOM = 14.0, 12.0, 44.0
_LETTER = 6.6
_BAR, _GAP = 22.0, 10.0
# a shorter one cannot be seen
_LEAST_LINE = 2.0
COLOURS = 8


def draw(figure: Figure) -> Element:
    """A figure's plot, with its title and description as the text that stands for it."""
    key, plot = figure.key, figure.plot
    height = _HEIGHT if isinstance(plot, Chart) else _bars_height(plot)
    svg = tag(
        "svg",
        tag("title", figure.title, id=f"{key}-title"),
        tag("desc", figure.description, id=f"{key}-desc"),
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )
    svg.extend(_chart(plot, f"{key}-area") if isinstance(plot, Chart) else _bars(plot))
    return svg


def _chart(chart: Chart, area: str) -> list[Element]:
    left = 14 + _LETTER * max((len(text) for _, text in chart.y.ticks), default=0)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    clip = tag(
        "clipPath",
        # a dot at the edge is shown whole
        _rect(left - 5, _TOP - 5, right - left + 10, bottom - _TOP + 10),
        id=area,
    )
    drawn = [tag("defs", clip)]
    for value, text in chart.x.ticks:
        x = _x(chart.x, value, left)
        drawn.append(_line(x, _TOP, x, bottom, "grid"))
        drawn.append(_text(_inside(x, text), bottom + 16, text, "middle"))
    for value, text in chart.y.ticks:
        y = _y(chart.y, value)
        drawn.append(_line(left, y, right, y, "grid"))
        drawn.append(_text(left - 6, y + 4, text, "end"))
    drawn.append(_line(left, bottom, right, bottom, "axis"))
    drawn.append(_line(left, _TOP, left, bottom, "axis"))
    drawn.append(_text((left + right) / 2, _HEIGHT - 6, chart.x.label, "middle"))
    shapes = [shape for series in chart.series for shape in _series(chart, series, left)]
    drawn.append(tag("g", *shapes, clip_path=f"url(#{area})"))
    return drawn


def _series(chart: Chart, series: Series, left: float) -> list[Element]:
    colour = f"c{series.colour % COLOURS}"
    places = [(_x(chart.x, x, left), _y(chart.y, y)) for x, y in series.points]
    if series.kind == "dots":
        tips = series.tips or ("",) * len(places)
        return [_dot(x, y, colour, tip) for (x, y), tip in zip(places, tips, strict=True)]
    if not places:
        return []
    if sum(math.dist(a, b) for a, b in pairwise(places)) < _LEAST_LINE:
        return [_dot(*places[-1], colour, "")]
    path = f"M{_short(places[0][0])} {_short(places[0][1])}"
    for x, y in places[1:]:
        path += (
            f"H{_short(x)}V{_short(y)}" if series.kind == "steps" else f"L{_short(x)} {_short(y)}"
        )
    style = "level" if series.kind == "level" else "curve"
    return [tag("path", d=path, class_=f"{style} {colour}")]


def _bars_height(bars: Bars) -> float:
    return len(bars.parts) * (_BAR + _GAP) + _GAP


def _bars(bars: Bars) -> list[Element]:
    names = max(len(name) for name, *_ in bars.parts) * _LETTER + 10
    values = max(len(text) for *_, text in bars.parts) * _LETTER + 10
    room = _WIDTH - names - values
    most = max(value for _, value, _ in bars.parts) or 1.0
    drawn = []
    for i, (name, value, text) in enumerate(bars.parts):
        y = _GAP + i * (_BAR + _GAP)
        width = max(1.0, room * value / most)
        drawn += [
            _text(names - 8, y + _BAR * 0.7, name, "end"),
            _rect(names, y, width, _BAR, "bar"),
            _text(names + width + 6, y + _BAR * 0.7, text, "start"),
        ]
    return drawn


def _x(axis: Axis, value: float, left: float) -> float:
    return left + axis.place(value) * (_WIDTH - _RIGHT - left)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.place(value) * (_HEIGHT - _BOTTOM - _TOP)


def _inside(x: float, text: str) -> float:
    """The middle of a text at `x` that would reach over the right edge, moved to fit."""
    return min(x, _WIDTH - 2 - len(text) * _LETTER / 2)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if math.isfinite(value) else "0"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Element:
    ends = {"x1": _short(x1), "y1": _short(y1), "x2": _short(x2), "y2": _short(y2)}
    return tag("line", class_=style, **ends)


def _rect(x: float, y: float, width: float, height: float, style: str | None = None) -> Element:
    sizes = {"x": _short(x), "y": _short(y), "width": _short(width), "height": _short(height)}
    return tag("rect", class_=style, **sizes)


def _dot(x: float, y: float, colour: str, tip: str) -> Element:
    inner = (tag("title", tip),) if tip else ()
    return tag("circle", *inner, cx=_short(x), cy=_short(y), r="4.5", class_=f"dot {colour}")


def _text(x: float, y: float, text: str, anchor: str) -> Element:
    return tag("text", text, x=_short(x), y=_short(y), text_anchor=anchor)
