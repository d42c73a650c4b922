"""For runs that nobody watches."""

from __future__ import annotations

from familyseer.progress._base import Observer


class QuietProgress(Observer):
    """Shows nothing at all."""
