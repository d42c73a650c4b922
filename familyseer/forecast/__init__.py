"""What a tuning run would be like, without tuning: what the budget pays for, the likely gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.forecast._forecast import forecast

__all__ = ["forecast"]

__getattr__ = lazily(__name__, {"forecast": "._forecast"})
