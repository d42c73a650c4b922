"""Draws the pictures of the documentation: `docs/images/*.svg`.

    python scripts/docs_pictures.py

The pictures of families, seeds and SpAMM show real data: SqueezeNet's subgraphs as they are
extracted here, tile sizes as they are re-fitted, the norms of generated matrices, a plan, and the
error that it bounds. The others are
drawings.
"""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
from _picture import Picture


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
        middle = y + height / 2
        p.arrow([(360, middle - 8), (396, middle - 8)])
        p.arrow([(360, middle + 8), (378, middle + 8), (378, 270)])
        y += height + 8
    p.labelled(256, 270, 244, 40, "box", "the model of all families")
    p.text(32, 286, "area: share of the", "note", "start")
    p.text(32, 302, "model's operations", "note", "start")
    p.text(378, 330, "an arrow: measurements are learnt from", "note")
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


def draw_seeds() -> Picture:
    """A sibling's best tile sizes, re-fitted to a subgraph of other extents."""
    from familyseer.search._decisions import TILE, Slot, nearest_tiling

    p = Picture("seeds", 214, "A sibling's best tile sizes, re-fitted to other loop extents")
    p.text(118, 22, "a tuned sibling", "strong")
    p.text(402, 22, "this subgraph", "strong")
    loops: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
        ("rows", 56, 28, (7, 1, 8, 1)),
        ("columns", 56, 28, (2, 2, 2, 7)),
        ("channels", 64, 96, (2, 1, 2, 16)),
    )
    for number, (name, theirs, mine, factors) in enumerate(loops):
        y = 44.0 + 54 * number
        slot = Slot(TILE, "SamplePerfectTile", 0, len(factors), mine, 64)
        fitted = [int(factor) for factor in nearest_tiling(slot, factors)]
        for left, extent, tiling, kind in ((20, theirs, factors, "a"), (304, mine, fitted, "c")):
            p.text(left, y + 12, f"{extent} {name}", "note", "start")
            for place, factor in enumerate(tiling):
                p.rect(left + 82 + 28 * place, y - 8, 26, 30, kind)
                p.text(left + 95 + 28 * place, y + 12, str(factor))
        p.arrow([(224, y + 7), (292, y + 7)])
    p.text(260, 204, "inner tiles, made for the machine, stay where they divide the loop", "note")
    return p


def draw_models() -> Picture:
    """How the models' predictions become one."""
    p = Picture("models", 330, "The models of a run, and how their predictions are mixed")
    p.labelled(
        20, 10, 480, 50, "box", "the estimate", "a roofline of the candidate's loops and accesses"
    )
    p.arrow([(135, 60), (135, 90)])
    p.arrow([(385, 60), (385, 90)])
    p.labelled(20, 90, 230, 56, "c", "trees of all families", "every measurement")
    p.labelled(270, 90, 230, 56, "a", "trees of the family", "its members' measurements")
    p.arrow([(135, 146), (135, 162), (230, 162), (230, 180)])
    p.arrow([(385, 146), (385, 162), (290, 162), (290, 180)])
    p.labelled(110, 180, 300, 50, "box", "mixed", "by what each would have predicted")
    p.arrow([(260, 230), (260, 260)])
    p.labelled(
        20,
        260,
        480,
        56,
        "b",
        "corrected by a Gaussian process",
        "of the subgraph's own measurements, which knows its doubt",
    )
    return p


def draw_checks() -> Picture:
    """What is checked, and what becomes of what is wrong."""
    p = Picture("checks", 300, "What is checked before a library is shipped")
    p.labelled(20, 10, 220, 56, "c", "a winner", "beside the untuned subgraph")
    p.labelled(300, 10, 200, 56, "d", "quarantine", "with a reproducer")
    p.arrow([(240, 38), (300, 38)])
    p.text(270, 28, "wrong", "note")
    p.arrow([(130, 66), (130, 110)])
    p.text(140, 92, "right, on random numbers and on edge cases", "note", "start")
    p.labelled(20, 110, 220, 56, "c", "the library", "beside the untuned library")
    p.labelled(300, 110, 200, 56, "d", "doubted schedules go", "the next best, or untuned")
    p.arrow([(240, 130), (300, 130)])
    p.text(270, 124, "wrong", "note")
    p.arrow([(300, 150), (240, 150)])
    p.arrow([(130, 166), (130, 210)])
    p.text(140, 192, "right, and beside ONNX Runtime too", "note", "start")
    p.labelled(20, 210, 220, 56, "a", "model.so", "timed in turns with the untuned")
    p.labelled(300, 210, 200, 56, "box", "the untuned library", "if nothing helps")
    p.arrow([(400, 166), (400, 210)])
    p.text(260, 290, "nothing that was found wrong is shipped", "note")
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
    drawers = (
        draw_run,
        draw_families,
        draw_seconds,
        draw_round,
        draw_seeds,
        draw_models,
        draw_checks,
        draw_spamm,
        draw_spamm_bound,
    )
    for drawer in drawers:
        click.echo(drawer().save().name)


if __name__ == "__main__":
    main()
