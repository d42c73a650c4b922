"""A clock that replays: time passes only by what the work would have cost."""

from __future__ import annotations

from familyseer.search._clock import Clock

TRACE_S = 6e-3


class ReplayClock(Clock):
    """Time as work: one second for each second that one worker would have been busy.

    How many workers there are does not change it, so neither does it change what is decided.

    Parameters
    ----------
    budget_s
        As for `Clock`.
    trace_s
        Charged for a trace that is applied and ranked, in seconds.
    """

    def __init__(self, budget_s: float | None = None, *, trace_s: float = TRACE_S) -> None:
        self._now = 0.0
        self.trace_s = trace_s
        super().__init__(budget_s, 0.0)

    def now(self) -> float:
        """Seconds of work so far."""
        return self._now

    def spend(self, seconds: float) -> None:
        """Lets time pass."""
        self._now += max(0.0, seconds)

    def worked(self, traces: int) -> None:
        """Charges for traces that were applied and ranked."""
        self.spend(traces * self.trace_s)
