"""What a tuner that is not ours found, written down as it is measured."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from familyseer.run import HISTORY_COLUMNS
from familyseer.subgraphs import Subgraph


class OverBudgetError(Exception):
    """The tuner's time is up; raised inside a tuner that has no notion of time of its own."""


class Ledger:
    """Best times by subgraph, and a history file with the columns of our own runs.

    Results that come after the deadline are not counted.

    Attributes
    ----------
    gpus
        How many GPUs measured, as the tuner that fills the ledger tells; None for other targets.
    """

    def __init__(
        self, subgraphs: Sequence[Subgraph], history: Path, started_at: float, budget_s: float
    ) -> None:
        self.subgraphs = {s.key: s for s in subgraphs}
        self.best_s: dict[str, float] = {}
        self.best_mod: dict[str, Any] = {}
        self.trials = 0
        self.failed = 0
        self.ended = False
        self.gpus: int | None = None
        self.started_at = started_at
        self.budget_s = budget_s
        self._history = history
        with history.open("w", newline="") as file:
            csv.writer(file).writerow(HISTORY_COLUMNS)

    def elapsed_s(self) -> float:
        """Seconds since the tuner's process began."""
        return time.monotonic() - self.started_at

    def left_s(self) -> float:
        """Seconds left of the budget."""
        return self.budget_s - self.elapsed_s()

    def check(self) -> None:
        """Raises `OverBudgetError` once the time is up."""
        if self.left_s() <= 0:
            self.ended = True
            raise OverBudgetError

    def record(self, key: str, mod: Any, run_s: float) -> None:
        """Books one measured candidate of the subgraph `key`; infinity for a failed one."""
        if self.left_s() <= 0:
            return
        self.trials += 1
        self.failed += math.isinf(run_s)
        if run_s < self.best_s.get(key, math.inf):
            self.best_s[key], self.best_mod[key] = run_s, mod
        best = self.best_s.get(key)
        estimate = self.estimated_s()
        with self._history.open("a", newline="") as file:
            csv.writer(file).writerow(
                (
                    round(self.elapsed_s(), 3),
                    self.trials,
                    self.subgraphs[key].name,
                    "",
                    "" if best is None else best * 1e6,
                    "" if estimate is None else estimate * 1e6,
                )
            )

    def estimated_s(self) -> float | None:
        """The model's latency as the weighted sum of best times; None while one is missing."""
        if len(self.best_s) < len(self.subgraphs):
            return None
        return sum(s.weight * self.best_s[key] for key, s in self.subgraphs.items())
