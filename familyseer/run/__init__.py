"""A whole tuning run: a model in, a checked library and its records out, when the clock says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from familyseer.run._history import HISTORY_COLUMNS
from familyseer.run._summary import versions

if TYPE_CHECKING:
    from familyseer.run._driver import tune

__all__ = ["HISTORY_COLUMNS", "tune", "versions"]


def __getattr__(name: str) -> Any:
    if name != "tune":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from familyseer.run._driver import tune

    return tune
