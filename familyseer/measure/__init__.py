"""Building and running candidates in warm worker processes, behind TVM's Builder and Runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from familyseer.measure._builder import WarmBuilder
    from familyseer.measure._runner import WarmRunner
    from familyseer.measure._workers import WorkerPool

__all__ = ["WarmBuilder", "WarmRunner", "WorkerPool"]

_HOMES = {"WarmBuilder": "_builder", "WarmRunner": "_runner", "WorkerPool": "_workers"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
