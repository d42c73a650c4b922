"""Draws the pictures of the documentation: `docs/images/*.svg`.

    python scripts/docs_pictures.py

The pictures of families and of SpAMM show real data: SqueezeNet's subgraphs as they are extracted
here, the norms of generated matrices, a plan, and the error that it bounds. The others are
drawings. Colours follow the reader's system, light or dark, and letters stay legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import numpy as np

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
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
        ET.indent(self.root)
        path.write_text(ET.tostring(self.root, encoding="unicode") + "\n", "utf-8")
        return path

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


def draw_run() -> Picture:
    """A run, from the model to the library."""
    p = Picture("run", 470, "A run of FamilySeer, from the model to the checked library")
    p.labelled(20, 10, 150, 56, "box", "model", "ONNX, PyTorch, TVM")
    p.arrow([(170, 38), (208, 38)])
    p.labelled(208, 10, 292, 56, "box", "Relax module", "imported, cleaned, fused")
    p.arrow([(354, 66), (354, 96)])
    kinds = "aababacbadab"
    p.text(20, 122, "subgraphs", "strong", "start")
    for number, kind in enumerate(kinds):
        p.rect(208 + 24.6 * number, 106, 20, 24, kind)
    p.arrow([(354, 134), (354, 160)])
    p.text(20, 196, "families", "strong", "start")
    x = 208.0
    for kind in "abcd":
        count = kinds.count(kind)
        p.rect(x, 166, 19 * count + 12, 50, "box")
        for number in range(count):
            p.rect(x + 8 + 19 * number, 178, 15, 26, kind)
        x += 19 * count + 12 + 5
    p.arrow([(354, 216), (354, 246)])
    p.rect(20, 246, 480, 118, "box", stroke_dasharray="5 4")
    p.text(34, 268, "until the budget is used up", "note", "start")
    steps = ("choose", "search", "build", "measure", "learn")
    for number, step in enumerate(steps):
        left = 34 + 92.5 * number
        p.labelled(left, 284, 82, 36, "a", step)
        if number:
            p.arrow([(left - 10.5, 302), (left, 302)])
    p.arrow([(444, 320), (444, 344), (74, 344), (74, 322)])
    p.text(259, 358, "a subgraph, its candidates, their times", "note")
    p.arrow([(260, 364), (260, 394)])
    p.labelled(20, 394, 300, 60, "c", "checked", "each winner, then the whole library")
    p.arrow([(320, 424), (358, 424)])
    p.labelled(358, 394, 142, 60, "box", "model.so", "and a report")
    return p


def draw_families() -> Picture:
    """SqueezeNet's families, each subgraph by its share of the model's operations."""
    from familyseer.families import families_table, form_families
    from familyseer.models import load_model
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target

    target = resolve_target(None)
    subgraphs = extract_subgraphs(fuse(load_model("squeezenet").mod, target), target)
    rows = families_table(form_families(subgraphs, "op"), subgraphs)
    p = Picture("families", 338, "SqueezeNet's subgraphs in families, and their cost models")
    y = 10.0
    for row, kind in zip(rows, "abcd", strict=False):
        height = 84.0 if row is rows[0] else 46.0
        p.rect(20, y, 340, height, "box")
        p.text(32, y + 20, row.family.name, "strong", "start")
        words = "subgraph" if len(row.members) == 1 else "subgraphs"
        p.text(32, y + 37, f"{len(row.members)} {words}", "note", "start")
        x, line = 150.0, y + 10
        for member in row.members:
            side = max(8.0, 60.0 * math.sqrt(member.share))
            if x + side > 350:
                x, line = 150.0, line + 38
            p.rect(x, line, side, side, kind)
            x += side + 5
        p.labelled(396, y + height / 2 - 20, 104, 40, kind, "its model")
        p.arrow([(360, y + height / 2), (396, y + height / 2)])
        p.arrow([(500, y + height / 2), (510, y + height / 2), (510, 284), (488, 284)])
        y += height + 8
    p.labelled(212, 264, 276, 40, "box", "the model of all families")
    p.text(32, 280, "area: share of the", "note", "start")
    p.text(32, 296, "model's operations", "note", "start")
    p.text(350, 326, "an arrow: measurements are learnt from", "note")
    return p


def draw_seconds() -> Picture:
    """Which of two subgraphs the next second goes to."""
    p = Picture("seconds", 280, "The next round goes to the subgraph with the most gain a second")

    def place(seconds: float, best: float) -> tuple[float, float]:
        return 60 + 36 * seconds, 330 - 3 * best

    p.line([(60, 14), (60, 230), (506, 230)])
    p.text(506, 254, "seconds spent on it", "note", "end")
    p.text(68, 22, "weight times best time", "note", "start")
    flat = [
        (0, 100),
        (1, 100),
        (1, 62),
        (2.5, 62),
        (2.5, 48),
        (5, 48),
        (5, 45),
        (8, 45),
        (8, 44.5),
        (9, 44.5),
    ]
    steep = [(0, 88), (1, 88), (1, 80), (2, 80), (2, 66), (3, 66)]
    p.line([place(*one) for one in flat], "curve b")
    p.line([place(*one) for one in steep], "curve a")
    p.text(*place(5.2, 51), "9 s spent, hardly falling", "note", "start")
    p.arrow([place(3, 66), place(4.6, 80)])
    p.labelled(
        *place(4.7, 96), 226, 44, "a", "the next round goes here", "steep, and little spent yet"
    )
    return p


def draw_round() -> Picture:
    """What becomes of candidates in a round."""
    p = Picture("round", 424, "From thousands of decision vectors to one checked winner")
    steps = (
        (
            500,
            "c",
            "up to 4000 vectors of decisions",
            "bred from the best and from siblings: microseconds each",
        ),
        (420, "c", "at most 320 applied", "a small model has sieved them: milliseconds each"),
        (330, "a", "8 chosen", "by all models, one in ten by chance"),
        (330, "b", "8 built and measured", "tenths of a second each"),
        (320, "b", "those near the best timed again", "in turns with it"),
        (200, "d", "1 winner checked", "against the untuned"),
    )
    for number, (width, kind, title, note) in enumerate(steps):
        y = 10.0 + 70 * number
        p.labelled(260 - width / 2, y, width, 50, kind, title, note)
        if number:
            p.arrow([(260, y - 20), (260, y)])
    p.arrow([(425, 245), (480, 245), (480, 175), (425, 175)])
    p.text(474, 215, "learn", "note", "end")
    return p


def draw_spamm() -> Picture:
    """Two matrices of decaying blocks, and how much of their product is kept."""
    blocks, side = 16, 9.0
    a, b = _decaying()
    plan = _planned(a, b, 0.1)
    kept = np.diff(plan.offsets).reshape(blocks, blocks) / blocks
    p = Picture(
        "spamm", 236, "Norms of the blocks of A and B, and the share of products kept for C"
    )
    shades = [_shade(plan.norms_a), _shade(plan.norms_b), kept / kept.max()]
    notes = ("norms of A", "norms of B", "products kept for C")
    for number, (shade, note) in enumerate(zip(shades, notes, strict=True)):
        left = 14 + 174.0 * number
        p.rect(left, 30, blocks * side, blocks * side, "faint", fill="none")
        for (row, column), value in np.ndenumerate(shade):
            if value > 0.02:
                p.rect(
                    left + side * column,
                    30 + side * row,
                    side - 1,
                    side - 1,
                    "heat",
                    opacity=float(value),
                )
        p.text(left + blocks * side / 2, 20, note)
    p.text(173, 108, "\N{MULTIPLICATION SIGN}")
    p.text(347, 108, "→")
    ratio = f"{100 * plan.valid_ratio:.0f} % of the block products are kept"
    relative = plan.error_bound / np.linalg.norm(a @ b)
    p.text(260, 200, ratio, "strong")
    p.text(
        260,
        222,
        f"the error is guaranteed to be at most {100 * relative:.1g} % of the norm of C",
        "note",
    )
    return p


def draw_spamm_bound() -> Picture:
    """The bound beside the error, over tau."""
    import spamm

    a, b = _decaying()
    exact = a @ b
    norm = float(np.linalg.norm(exact))
    points = []
    for ratio in np.geomspace(0.06, 0.6, 12):
        plan = _planned(a, b, float(ratio))
        off = float(np.linalg.norm(spamm.multiply(plan, a, b, backend="numpy") - exact)) / norm
        points.append((plan.valid_ratio, plan.error_bound / norm, off))
    low = math.floor(math.log10(min(off for *_, off in points)))
    high = math.ceil(math.log10(max(bound for _, bound, _ in points)))
    p = Picture("spamm-bound", 300, "The error bound is above the error at every valid ratio")

    def place(ratio: float, value: float) -> tuple[float, float]:
        share = (math.log10(value) - low) / (high - low)
        return 70 + 430 * ratio / 0.65, 250 - 225 * share

    step = max(1, (high - low) // 6)
    for power in range(low, high + 1, step):
        y = place(0, 10.0**power)[1]
        p.line([(70, y), (500, y)], "line faint")
        p.text(62, y + 5, f"1e{power}", "note", "end")
    for percent in range(0, 61, 10):
        p.text(place(percent / 100, 10.0**low)[0], 268, f"{percent} %", "note")
    p.text(500, 290, "block products kept", "note", "end")
    p.text(70, 16, "relative to the norm of C", "note", "start")
    p.line([place(ratio, bound) for ratio, bound, _ in points], "curve b")
    p.line([place(ratio, off) for ratio, _, off in points], "curve a")
    ratio, bound, off = points[7]
    p.text(
        place(ratio, bound)[0] + 10,
        place(ratio, bound)[1] - 8,
        "the bound, from norms alone",
        anchor="start",
    )
    p.text(place(ratio, off)[0] - 12, place(ratio, off)[1] + 14, "the error", anchor="end")
    return p


def _decaying() -> tuple[Any, Any]:
    """Two matrices of 16 x 16 blocks, in a type whose rounding cannot be seen beside the bound."""
    from spamm.generators import exponential_decay

    kind: Any = {"base": 0.9, "dtype": "float64"}
    return exponential_decay(512, seed=1, **kind), exponential_decay(512, seed=2, **kind)


def _planned(a: Any, b: Any, ratio: float) -> Any:
    import spamm

    return spamm.plan(a, b, valid_ratio=ratio, block=32, backend="numpy")


def _shade(norms: Any) -> Any:
    """Norms as opacities: by their logarithm, the largest 1, a millionth of it 0."""
    with np.errstate(divide="ignore"):
        return np.clip(1 + np.log10(norms / norms.max()) / 6, 0, 1)


@click.command()
def main() -> None:
    """Draw all pictures."""
    drawers = (draw_run, draw_families, draw_seconds, draw_round, draw_spamm, draw_spamm_bound)
    for drawer in drawers:
        click.echo(drawer().save().name)


if __name__ == "__main__":
    main()
