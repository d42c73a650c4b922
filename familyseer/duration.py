"""Durations as people write them: ``90``, ``90s``, ``10m``, ``1h30m``, and back."""

from __future__ import annotations

import math
import re

from familyseer.errors import UserError

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_DURATION = re.compile(
    rf"(?:{_NUMBER}h)?\s*(?:{_NUMBER}m(?:in)?)?\s*(?:{_NUMBER}s?)?", re.IGNORECASE | re.ASCII
)
_LONGEST_S = 365 * 24 * 3600.0


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90``, ``90s``, ``1.5h``, ``10m`` or ``1h30m``.

    Units go from long to short, each at most once; a last number without a unit counts seconds.

    Raises
    ------
    UserError
        The text is no duration, or one that is not above zero, or one of more than a year.
    """
    stripped = text.strip()
    match = _DURATION.fullmatch(stripped)
    if not stripped or match is None:
        raise _refused(text, "a time such as 90s, 10m or 1h30m")
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    seconds = math.fsum(float(number) * unit for number, unit in parts if number)
    if seconds <= 0:
        raise _refused(text, "a time above zero, such as 90s, 10m or 1h30m")
    if seconds > _LONGEST_S:
        raise _refused(text, "a time of at most a year, such as 90s, 10m or 1h30m")
    return seconds


def _refused(text: str, expected: str) -> UserError:
    return UserError(f"duration {text!r}: expected {expected}")


def format_duration(seconds: float) -> str:
    """A duration in seconds for people: ``0.4s``, ``42s``, ``10m``, ``9m05s``, ``1h02m``.

    Under ten seconds it keeps a tenth; from an hour on it rounds to minutes. A negative duration
    reads as ``0s``, one that is no number as ``?``.
    """
    if not math.isfinite(seconds):
        return "?"
    seconds = max(0.0, float(seconds))
    tenths = round(seconds, 1)
    if tenths < 10 and not tenths.is_integer():
        return f"{tenths:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
