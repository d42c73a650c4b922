"""What the loop knows of one subgraph: its best time, what it cost, what was tried."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from familyseer.subgraphs import Subgraph

ELITE = 32
FULL_ROUND = 16


@dataclass
class TaskState:
    """The tuning state of one subgraph.

    Attributes
    ----------
    best_s
        Best measured seconds of one run; infinity before the first valid candidate.
    seconds
        Wall-clock seconds spent on it: proposing, building, measuring.
    history
        ``(seconds, best_s)`` after each round.
    stalls
        Full rounds' worth of candidates in a row that brought less than one per cent.
    appetite
        Share of a full round that the next one deserves, in (0, 1].
    incumbent
        What was measured of the best candidate, its library kept, to time others beside it.
    spills
        Whether the best candidate spills registers; a resumed run does not know.
    elite
        The fastest measured candidates, ``(run seconds, schedule)``, fastest first.
    """

    subgraph: Subgraph
    family: str
    best_s: float = math.inf
    seconds: float = 0.0
    trials: int = 0
    build_errors: int = 0
    run_errors: int = 0
    rounds: int = 0
    stalls: float = 0.0
    empty_rounds: int = 0
    exhausted: bool = False
    build_s: float = 0.0
    appetite: float = 1.0
    incumbent: Any = None
    spills: bool = False
    history: list[tuple[float, float]] = field(default_factory=list)
    elite: list[tuple[float, Any]] = field(default_factory=list)

    @property
    def index(self) -> int:
        """Position in the model's list of subgraphs."""
        return self.subgraph.index

    @property
    def covered(self) -> bool:
        """Whether a valid schedule was measured."""
        return math.isfinite(self.best_s)

    @property
    def seconds_per_trial(self) -> float:
        """What one candidate has cost here, in wall-clock seconds; 0 before the first."""
        return self.seconds / self.trials if self.trials else 0.0

    def remember(self, run_s: float, schedule: Any) -> None:
        """Keeps a measured candidate if it is among the fastest."""
        self.elite.append((run_s, schedule))
        self.elite.sort(key=lambda pair: pair[0])
        del self.elite[ELITE:]

    def close_round(self, seconds: float, measured: int) -> None:
        """Books a finished round."""
        previous = self.history[-1][1] if self.history else math.inf
        if not self.covered or self.best_s > 0.99 * previous:
            # counted by candidates: short rounds must not give a subgraph up the sooner
            self.stalls += min(1.0, measured / FULL_ROUND) if measured else 1.0
        else:
            self.stalls = 0.0
        self.seconds += seconds
        self.rounds += 1
        self.history.append((self.seconds, self.best_s))
        self.empty_rounds = 0 if measured else self.empty_rounds + 1
        if self.empty_rounds >= 2:
            self.exhausted = True
