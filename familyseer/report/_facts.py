"""Facts out of what a run left, whoever wrote it: of the type that is asked for, or missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# of a name, and of a sentence
SHORT, LONG = 120, 400
# no time, rate or count of a run is beyond these; what is would overflow in reckoning
LEAST, MOST = 1e-9, 1e24


def number(where: Any, name: str) -> float | None:
    """A finite number, None where there is none."""
    value = where.get(name) if isinstance(where, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def positive(where: Any, name: str) -> float | None:
    """A plausible number above zero, None where there is none."""
    value = number(where, name)
    return value if value is not None and plausible(value) else None


def plausible(value: float) -> bool:
    """Whether a run can have measured or counted it."""
    return LEAST <= value <= MOST


def count(where: Any, name: str) -> int:
    """A number of things, 0 where there is none."""
    value = number(where, name)
    return int(value) if value is not None and value > 0 else 0


def text(where: Any, name: str, limit: int = LONG) -> str:
    """A text or a number as one, made fit to be shown; empty where there is none."""
    value = where.get(name) if isinstance(where, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return shown(str(value), limit)


def mapping(where: Any, name: str) -> dict[str, Any]:
    """An object, empty where there is none."""
    value = where.get(name) if isinstance(where, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def items(where: Any, name: str) -> list[Any]:
    """An array, empty where there is none."""
    value = where.get(name) if isinstance(where, Mapping) else None
    return list(value) if isinstance(value, list) else []


def shown(value: str, limit: int = LONG) -> str:
    """A text without characters that steer or turn what is around it, cut to a length."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return "".join(c if c.isprintable() or c == "\n" else _stand_in(c) for c in cut)


def _stand_in(character: str) -> str:
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
