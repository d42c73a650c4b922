"""A whole tuning run: a model in, a checked library and its records out, when the clock says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer.run._history import HISTORY_COLUMNS
from familyseer.run._summary import versions

if TYPE_CHECKING:
    from familyseer.run._driver import tune
    from familyseer.run._replay import replay

__all__ = ["HISTORY_COLUMNS", "replay", "tune", "versions"]

__getattr__ = lazily(__name__, {"replay": "._replay", "tune": "._driver"})
