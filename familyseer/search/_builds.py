"""How long a build may take before it is not worth waiting for."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

# a candidate whose build takes this many times the usual is rarely fast, and its round waits
PATIENCE = 4.0
LEAST_S = 0.7
FIRST_LIMIT_S = 8.0
SHARE_OF_LEFT = 0.05


class BuildTimes:
    """Build times of the run so far."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=256)

    def add(self, seconds: Iterable[float]) -> None:
        """Books successful builds; those of unknown length (0) are left out."""
        self._recent.extend(s for s in seconds if s > 0)

    def limit_s(self, left_s: float) -> float:
        """Seconds that the next builds get.

        Parameters
        ----------
        left_s
            Seconds of tuning left, of which one build never gets more than a small share.
        """
        usual = PATIENCE * statistics.median(self._recent) if self._recent else FIRST_LIMIT_S
        share = math.inf if math.isinf(left_s) else SHARE_OF_LEFT * left_s
        return max(LEAST_S, min(usual, share))
