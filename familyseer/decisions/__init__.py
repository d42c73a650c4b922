"""The decisions of a run: what they depended on is written down, and they can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.decisions._replay import Replayed, replay

__all__ = ["Replayed", "replay"]

__getattr__ = lazily(__name__, {"Replayed": "._replay", "replay": "._replay"})
