"""The plots of a run, each with its words and its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from familyseer.duration import format_duration
from familyseer.report import _facts as facts
from familyseer.report._axes import latency_axis, log_axis, share_axis, time_axis
from familyseer.report._plot import Bars, Chart, Figure, Series, Table, thinned
from familyseer.report._read import RunData
from familyseer.report._roofline import LEAST_INTENSITY, Position, Roof, find_roof, positions
from familyseer.report._rounds import RoundRow
from familyseer.units import format_count, format_latency, format_percent

# that can be told from each other; the table has all
_MOST_LINES = 8
_PHASES = {
    "loading": "loading the model",
    "untuned": "measuring untuned",
    "spamm": "SpAMM",
    "search": "search",
    "build": "build",
    "measure": "measure",
    "check": "check",
    "train": "train models",
    "finish": "check, compile, time",
}


def figures(data: RunData) -> list[Figure]:
    """Those that the run has data for."""
    made = (latency(data), time_spent(data), accuracy(data), roofline(data))
    return [figure for figure in made if figure is not None]


def latency(data: RunData) -> Figure | None:
    """Estimated latency over time, against untuned and what other tuners found."""
    lines = [("this run", _curve(data.rounds))]
    lines += [(rival.tuner, _curve(rival.rounds)) for rival in data.rivals[: _MOST_LINES - 1]]
    lines = [(name, points) for name, points in lines if points]
    untuned = facts.positive(data.summary, "untuned_us")
    tuned = facts.positive(data.summary, "tuned_us")
    marks = [(n, v) for n, v in (("untuned, measured", untuned), ("tuned, measured", tuned)) if v]
    if not lines:
        return None
    values = [y for _, points in lines for _, y in points] + [value for _, value in marks]
    last_s = max(points[-1][0] for _, points in lines)
    x, y = (
        time_axis(max(last_s, data.rounds[-1].elapsed_s if data.rounds else 0)),
        latency_axis(values),
    )
    series = [
        Series(name, "steps", points if len(points) > 1 else (*points, (x.high, points[0][1])), i)
        for i, (name, points) in enumerate(lines)
    ]
    series += [
        Series(f"{name}: {format_latency(value)}", "level", ((0.0, value), (x.high, value)), 7 - i)
        for i, (name, value) in enumerate(marks)
    ]
    rows = [
        (name, format_duration(at), format_latency(us))
        for name, points in lines
        for at, us in points
    ]
    said = [
        f"{name}: from {format_latency(points[0][1])} after {format_duration(points[0][0])} "
        f"to {format_latency(points[-1][1])} after {format_duration(points[-1][0])}."
        for name, points in lines
    ]
    said += [f"The model {name}: {format_latency(value)}." for name, value in marks]
    return Figure(
        "latency",
        "Latency of the model over time",
        " ".join(said),
        Chart(x, y, tuple(series)),
        Table(("tuner", "after", "latency"), tuple(rows), frozenset({1, 2})),
        (
            "The curve is an estimate: the best time of each subgraph, measured alone, times how "
            "often the model runs it. It begins when each subgraph has a measured schedule. The "
            "dashed lines are whole-model runs.",
        ),
    )


def _curve(rounds: Sequence[RoundRow]) -> tuple[tuple[float, float], ...]:
    return thinned([(r.elapsed_s, r.estimated_us) for r in rounds if r.estimated_us])


def time_spent(data: RunData) -> Figure | None:
    """Seconds by phase, and the rest of the run's."""
    phases = facts.mapping(data.summary, "phases_s")
    named = list(_PHASES.items()) + [(name, name) for name in phases if name not in _PHASES]
    parts = [
        (facts.shown(words, 24), seconds)
        for name, words in named[:20]
        if (seconds := facts.positive(phases, name)) is not None
    ]
    if not parts:
        return None
    spent = sum(seconds for _, seconds in parts)
    elapsed = max(facts.positive(data.summary, "elapsed_s") or 0.0, spent)
    parts.append(("idle and other", elapsed - spent))
    rows = [(n, format_duration(s), format_percent(s / elapsed)) for n, s in parts]
    most = max(parts, key=lambda part: part[1])
    return Figure(
        "time",
        "Where the time went",
        f"Of {format_duration(elapsed)}, most went into {most[0]}: {format_duration(most[1])}, "
        f"{format_percent(most[1] / elapsed)}.",
        Bars(
            tuple((n, s, f"{format_duration(s)} ({format_percent(s / elapsed)})") for n, s in parts)
        ),
        Table(("phase", "time", "share"), tuple(rows), frozenset({1, 2})),
        (
            "Seconds on the wall clock. Searching that ran beside builds is booked on search.",
            "Of the last run in this folder alone."
            if facts.positive(data.summary, "elapsed_before_s")
            else "",
        ),
    )


def accuracy(data: RunData) -> Figure | None:
    """How well each family's model ranked candidates it had not seen, over time."""
    by_family: dict[str, list[tuple[float, float]]] = {}
    for row in data.accuracy:
        by_family.setdefault(row.family, []).append((row.elapsed_s, row.accuracy))
    if not by_family:
        return None
    # the families' own order is by their share of the model
    order = {facts.shown(f["name"], facts.SHORT): i for i, f in enumerate(data.families)}
    names = sorted(by_family, key=lambda name: (order.get(name, len(order)), name))
    last_s = max(points[-1][0] for points in by_family.values())
    x = time_axis(max(last_s, data.rounds[-1].elapsed_s if data.rounds else 0.0))
    series = [
        Series(name, "steps", (*points, (x.high, points[-1][1])), i)
        for i, name in enumerate(names[:_MOST_LINES])
        if (points := thinned(by_family[name]))
    ]
    series.append(Series("guessing: 50%", "level", ((0.0, 0.5), (x.high, 0.5)), 7))
    said = [
        f"{name}: {format_percent(by_family[name][-1][1])} at the end."
        for name in names[:_MOST_LINES]
    ]
    rows = [(n, format_duration(s), format_percent(a)) for n in names for s, a in by_family[n]]
    hidden = len(names) - _MOST_LINES
    return Figure(
        "accuracy",
        "Accuracy of the cost models over time",
        "Share of pairs of candidates that a family's model put in the right order. "
        + " ".join(said),
        Chart(x, share_axis("pairs in the right order"), tuple(series)),
        Table(("family", "after", "accuracy"), tuple(rows), frozenset({1, 2})),
        (
            "Of candidates that the model had not learnt from, older ones counting less; half of "
            "all pairs are right by guessing.",
            f"The {_MOST_LINES} largest families are drawn, the table has {hidden} more."
            if hidden > 0
            else "",
        ),
    )


def roofline(data: RunData) -> Figure | None:
    """Operations a second over operations a byte, below the machine's known peaks."""
    every = positions(data)
    dots = [
        (position, intensity)
        for position in every
        if (intensity := position.intensity) is not None and intensity >= LEAST_INTENSITY
    ]
    if not dots:
        return None
    roof, why = find_roof(data, every)
    xs, ys = [i for _, i in dots], [p.flops_s for p, _ in dots]
    series = [
        Series(
            "best schedule of a subgraph",
            "dots",
            tuple((i, p.flops_s) for p, i in dots),
            0,
            tuple(f"{p.name}: {format_flops(p.flops_s)}, {i:.3g} op/byte" for p, i in dots),
        )
    ]
    if roof is not None:
        ridge = roof.flops_s / roof.bytes_s
        ends = min(*xs, ridge) / 1.5, max(*xs, ridge) * 1.5
        corners = (ends[0], ends[0] * roof.bytes_s), (ridge, roof.flops_s), (ends[1], roof.flops_s)
        xs, ys = [*xs, ridge], [*ys, roof.flops_s, ends[0] * roof.bytes_s]
        words = f"measured peaks: {format_flops(roof.flops_s)}, {format_bytes_s(roof.bytes_s)}"
        series.append(Series(words, "level", corners, 1))
    x = log_axis("operations a byte (logarithmic)", xs, lambda v: f"{v:g}")
    y = log_axis("operations a second (logarithmic)", ys, format_flops)
    known = [s for p in every if (s := p.below(roof)) is not None]
    said = f"{format_count(len(dots), 'subgraph')} by operations a byte and a second."
    if known:
        said += f" They reach {format_percent(min(known))} to {format_percent(max(known))} of "
        said += "what the measured peaks allow."
    return Figure(
        "roofline",
        "Roofline: how close the best schedules come to the machine's peaks",
        said,
        Chart(x, y, tuple(series)),
        _roofline_table(every, roof),
        tuple(_roofline_notes(why, len(every) - len(dots))),
    )


def _roofline_table(every: list[Position], roof: Roof | None) -> Table:
    rows = tuple(
        (
            position.name,
            format_latency(position.run_us),
            f"{position.intensity:.3g}" if position.intensity is not None else "-",
            format_flops(position.flops_s),
            format_bytes_s(position.bytes_s),
            format_percent(position.below(roof)),
        )
        for position in every
    )
    headings = ("subgraph", "best", "op/byte", "operations", "memory", "of the roof")
    return Table(headings, rows, frozenset(range(1, 6)))


def _roofline_notes(roof: str, not_drawn: int) -> Iterator[str]:
    yield (
        "Operations are as TVM counts them. Bytes are an estimate: each input and output once, "
        "which caches undercut and poor tiling exceeds."
    )
    yield roof
    if not_drawn:
        words = format_count(not_drawn, "subgraph")
        yield f"{words} that only move data, or have open shapes, are in the table alone."


def format_flops(flops_s: float) -> str:
    """Operations a second: ``12.3 Gop/s``."""
    return f"{_scaled(flops_s)}op/s"


def format_bytes_s(bytes_s: float | None) -> str:
    """Bytes a second: ``12.3 GB/s``, ``-`` where there are none."""
    return "-" if bytes_s is None else f"{_scaled(bytes_s)}B/s"


def _scaled(value: float) -> str:
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale * 0.9995:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "
