"""Latencies, counts and ratios as people read them, the same in every place that shows them."""

from __future__ import annotations

import math


def format_latency(us: float | None) -> str:
    """A latency given in microseconds in the unit that suits it: ``8.21 us``, ``12.3 ms``.

    A missing latency, or one that is no number, reads as ``-``.
    """
    if us is None or not math.isfinite(us):
        return "-"
    for scale, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= scale * 0.9995:
            return f"{_three_digits(us / scale)} {unit}"
    return f"{_three_digits(us)} us"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def format_ratio(value: float | None) -> str:
    """A speedup such as ``1.42x``, or ``-`` where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}x"


def format_percent(value: float | None) -> str:
    """A part of one as whole percents: ``43%``, ``<1%``, or ``-`` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"


def format_count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 subgraph``, ``3 subgraphs``, ``2 families``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
