"""The wall clock of a run: what is left to tune with, and where the time went."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Time left before tuning must stop, counted from the start of the whole command.

    Parameters
    ----------
    budget_s
        Wall-clock seconds for the whole run; None for no limit.
    started_at
        `time.monotonic()` at the start of the run; by default now.

    Attributes
    ----------
    reserve_s
        Seconds kept back for what follows tuning: compiling, checking, exporting. It may be set
        anew at any time as more is known.
    phases
        Seconds spent by phase.
    """

    def __init__(self, budget_s: float | None = None, started_at: float | None = None) -> None:
        self.started_at = self.now() if started_at is None else started_at
        self.budget_s = budget_s
        self.reserve_s = 0.0
        self.phases: dict[str, float] = {}
        self._stopped = False

    def stop(self) -> None:
        """Ends tuning as the deadline would; safe to call from a signal handler."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def live(self) -> Clock:
        """The clock to wait by: how often it is looked at has no part in any decision."""
        return self

    def now(self) -> float:
        """Seconds on a clock of arbitrary origin that only goes forward."""
        return time.monotonic()

    def worked(self, traces: int) -> None:
        """Told of traces that were applied and ranked; a clock that replays charges for them."""

    def elapsed_s(self) -> float:
        """Seconds since the run started."""
        return self.now() - self.started_at

    def tuning_left_s(self) -> float:
        """Seconds that may still go into tuning; 0 or less means stop."""
        if self._stopped:
            return 0.0
        if self.budget_s is None:
            return math.inf
        return self.budget_s - self.reserve_s - self.elapsed_s()

    def left_s(self) -> float:
        """Seconds left of the whole budget, the reserve included."""
        return math.inf if self.budget_s is None else self.budget_s - self.elapsed_s()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a phase."""
        began = self.now()
        try:
            yield
        finally:
            spent = self.now() - began
            self.phases[name] = self.phases.get(name, 0.0) + spent
