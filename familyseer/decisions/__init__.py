"""The decisions of a run: what they depended on is written down, and they can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from familyseer.decisions._replay import Replayed, replay

__all__ = ["Replayed", "replay"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from familyseer.decisions import _replay

    return getattr(_replay, name)
