"""Facts out of what a run left, whoever wrote it: of the type that is asked for, or missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# of a name, and of a sentence
SHORT, LONG = 120, 400


def number(where: Any, name: str) -> float | None:
    """A finite number, None where there is none."""
    value = where.get(name) if isinstance(where, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def positive(where: Any, name: str) -> float | None:
    """A finite number above zero, None where there is none."""
    value = number(where, name)
    return value if value is not None and value > 0 else None


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
    """A text without characters that steer a terminal or turn lines, cut to a length."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in cut)
