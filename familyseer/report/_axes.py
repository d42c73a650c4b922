"""Scales of plots: where they begin and end, and the round numbers that are written on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from familyseer.duration import format_duration
from familyseer.units import format_latency, format_percent

_TIME_STEPS_S = (
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * hours for hours in (1, 2, 4, 6, 12, 24, 7 * 24, 30 * 24)),
)
_MOST_TICKS = 6
# beyond this a scale from zero would hide the smaller values
_WIDE = 25.0


@dataclass(frozen=True)
class Axis:
    """A scale.

    Attributes
    ----------
    label
        What is on it.
    low, high
        Its ends; both above zero where `log`.
    ticks
        Values and how they are written.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value is, 0 at the low end and 1 at the high end."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)


def time_axis(last_s: float, label: str = "time since the run began") -> Axis:
    """Seconds from 0 on."""
    high = max(last_s, 0.5)
    step = next((s for s in _TIME_STEPS_S if high / s <= _MOST_TICKS), high / _MOST_TICKS)
    values = [step * i for i in range(int(high / step + 1e-9) + 1)]
    return Axis(label, 0.0, high, tuple((value, format_duration(value)) for value in values))


def latency_axis(values_us: Sequence[float]) -> Axis:
    """Microseconds: from 0 on, or logarithmic where values are far apart."""
    if max(values_us) > _WIDE * min(values_us):
        return log_axis("latency (logarithmic)", values_us, format_latency)
    high = 1.08 * max(values_us)
    step = _round_step(high / (_MOST_TICKS - 1))
    values = [step * i for i in range(int(high / step) + 1)]
    ticks = tuple((value, format_latency(value) if value else "0") for value in values)
    return Axis("latency", 0.0, high, ticks)


def share_axis(label: str) -> Axis:
    """Parts of one."""
    return Axis(label, 0.0, 1.0, tuple((v / 4, format_percent(v / 4)) for v in range(5)))


def log_axis(label: str, values: Sequence[float], write: Callable[[float], str]) -> Axis:
    """A logarithmic scale over values above zero, with some room at both ends."""
    low, high = min(values) / 1.5, max(values) * 1.5
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [float(10.0**e) for e in range(first, last + 1) if low <= 10.0**e <= high]
    if len(decades) < 3:
        # a scale spans a factor of 2.25 at least, more than there is between any two of these
        parts = (1.0, 2.0, 3.0, 5.0) if last - first <= 2 else (1.0, 3.0)
        decades = [
            part * 10.0**e
            for e in range(first, last + 1)
            for part in parts
            if low <= part * 10.0**e <= high
        ]
    every = math.ceil(len(decades) / _MOST_TICKS)
    return Axis(label, low, high, tuple((v, write(v)) for v in decades[::every]), log=True)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least), 10 * power)
