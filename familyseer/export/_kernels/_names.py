"""Names of subgraphs and arrays as names of C."""

from __future__ import annotations

import re
from collections.abc import Iterable

# C11's keywords and C++'s commonest, and what the generated files themselves name
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while bool true false class new delete template this
    kernel stream workspace folder status parameters values first base argc argv code main allocate
    transfer check device context malloc free exit fputs fprintf stderr NULL linux unix I size_t
    cpu_supported
"""
_TAKEN = frozenset(_WORDS.split())


def c_names(names: Iterable[str]) -> list[str]:
    """An identifier of C for each name, no two the same."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:120].lstrip("_") or "x"
        if plain[0].isdigit() or plain in _TAKEN:
            plain = f"x_{plain}"
        unique, number = plain, 1
        while unique in found:
            number += 1
            unique = f"{plain}_{number}"
        found.append(unique)
    return found
