"""Whether a schedule computes what its subgraph does, and what to keep of one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from familyseer.check._checker import Checker
    from familyseer.check._verdict import Verdict

__all__ = ["Checker", "Verdict"]

_HOMES = {"Checker": "_checker", "Verdict": "_verdict"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
