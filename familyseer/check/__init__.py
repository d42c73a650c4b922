"""Whether a schedule computes what its subgraph does, and what to keep of one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.check._checker import Checker
    from familyseer.check._verdict import Verdict

__all__ = ["Checker", "Verdict"]

__getattr__ = lazily(
    __name__,
    {
        "Checker": "._checker",
        "Verdict": "._verdict",
    },
)
