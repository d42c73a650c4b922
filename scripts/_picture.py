"""Drawings as SVG files that follow the reader's system, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
# narrow, so that letters stay legible on a phone, where the drawing is scaled to its width
WIDTH = 520.0
_STYLE = """
text { font: 15px system-ui, sans-serif; fill: #1f2328 }
.note { font-size: 13px; fill: #57606a }
.strong { font-weight: 600 }
.line { stroke: #57606a; stroke-width: 1.5; fill: none }
.faint { stroke: #d0d7de }
.box { fill: #f3f6f8; stroke: #8c959f }
.a { fill: #cfe8e4; stroke: #00796b } .b { fill: #fde3c8; stroke: #b35900 }
.c { fill: #dfdcf7; stroke: #5b4fc4 } .d { fill: #f9d7e2; stroke: #b0305f }
.curve { stroke-width: 2.5; fill: none } .curve.a { stroke: #00796b } .curve.b { stroke: #b35900 }
.arrow { fill: #57606a } .heat { fill: #00796b } .skipped { fill: #b35900 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9da7b1 } .line { stroke: #9da7b1 } .arrow { fill: #9da7b1 }
.faint { stroke: #444c56 } .box { fill: #2b323b; stroke: #768390 }
.a { fill: #0f4a43; stroke: #4db6ac } .b { fill: #5a3510; stroke: #f0a35e }
.c { fill: #37306e; stroke: #a79ff0 } .d { fill: #5c1f37; stroke: #ef8fb2 }
.curve.a { stroke: #4db6ac; fill: none } .curve.b { stroke: #f0a35e; fill: none }
.heat { fill: #4db6ac } .skipped { fill: #f0a35e }
}
.curve.a, .curve.b { fill: none }
"""


class Picture:
    """An SVG file in the making; lengths in units of a drawing of `WIDTH`."""

    def __init__(self, name: str, height: float, title: str) -> None:
        self.name = name
        self.root = ET.Element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH:g} {height:g}",
            width=f"{WIDTH:g}",
            height=f"{height:g}",
            role="img",
        )
        self._add("title").text = title
        self._add("style").text = _STYLE

    def save(self) -> Path:
        """Writes the file."""
        path = IMAGES / f"{self.name}.svg"
        path.write_text(self.text_of_file(), "utf-8")
        return path

    def text_of_file(self) -> str:
        """What the file holds."""
        ET.indent(self.root)
        return ET.tostring(self.root, encoding="unicode") + "\n"

    def rect(self, x: float, y: float, w: float, h: float, kind: str, **more: Any) -> None:
        """A box."""
        self._add(
            "rect", x=x, y=y, width=w, height=h, rx=min(4.0, w / 4), **{"class": kind}, **more
        )

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> None:
        """A line of text on its baseline."""
        self._add("text", x=x, y=y, **{"class": kind, "text-anchor": anchor}).text = text

    def line(self, points: Sequence[tuple[float, float]], kind: str = "line") -> None:
        """A line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polyline", points=joined, **{"class": kind})

    def arrow(self, points: Sequence[tuple[float, float]]) -> None:
        """A line that ends in an arrow's head."""
        (x0, y0), (x, y) = points[-2:]
        length = math.hypot(x - x0, y - y0)
        u, v = (x - x0) / length, (y - y0) / length
        self.line([*points[:-1], (x - 6 * u, y - 6 * v)])
        corners = [
            (x, y),
            (x - 9 * u - 4 * v, y - 9 * v + 4 * u),
            (x - 9 * u + 4 * v, y - 9 * v - 4 * u),
        ]
        joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        self._add("polygon", points=joined, **{"class": "arrow"})

    def labelled(self, x: float, y: float, w: float, h: float, kind: str, *lines: str) -> None:
        """A box with lines of text, the first one strong."""
        self.rect(x, y, w, h, kind)
        top = y + h / 2 - 9 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            self.text(x + w / 2, top + 18 * number, line, "note" if number else "strong")

    def _add(self, tag: str, **attributes: Any) -> ET.Element:
        plain = {
            name.replace("_", "-"): f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in attributes.items()
        }
        return ET.SubElement(self.root, tag, plain)
