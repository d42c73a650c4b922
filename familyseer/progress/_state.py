"""What an observer knows of a run: the events so far, folded into what is worth showing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from familyseer.progress._base import RoundEvent, RunInfo
from familyseer.units import format_latency, format_ratio

_PHASES = {
    "loading": "loading the model",
    "untuned": "timing the untuned library",
    "spamm": "looking for layers for SpAMM",
    "compiling": "compiling the tuned library",
}
# a ratio nearer to 1 reads as 1.00x
_LEVEL = 1.005


def phase_words(name: str) -> str:
    """A phase for people; its name where that says it."""
    return _PHASES.get(name, name)


@dataclass(frozen=True)
class FamilyState:
    """One line of the display.

    Attributes
    ----------
    name, members, share
        As in `FamilyInfo`; the share follows the run where its events tell it.
    trials
        Candidates measured for the family.
    covered
        Its subgraphs that have a latency.
    accuracy
        Of its cost model, 0 to 1; None before it has learned.
    improved_at_s
        Seconds into the run of its last better candidate; None before the first.
    """

    name: str
    members: int
    share: float
    trials: int = 0
    covered: int = 0
    accuracy: float | None = None
    improved_at_s: float | None = None


@dataclass
class RunState:
    """Everything shown of a run. Not safe for threads: the caller holds a lock where it needs one.

    Attributes
    ----------
    info
        From `on_start`; None before.
    phase
        The last phase named; empty before the first.
    last
        The last round; None before the first.
    first_model_us
        The first complete estimate of the model's latency, which later ones are compared with.
    families
        By name, in the order of `RunInfo`.
    """

    info: RunInfo | None = None
    phase: str = ""
    last: RoundEvent | None = None
    first_model_us: float | None = None
    families: dict[str, FamilyState] = field(default_factory=dict)
    _best_us: dict[tuple[str, str], float] = field(default_factory=dict)

    def start(self, info: RunInfo) -> None:
        """Takes in `on_start`."""
        self.info = info
        self.families = {
            family.name: FamilyState(family.name, len(family.members), family.share)
            for family in info.families
        }

    def add(self, event: RoundEvent) -> None:
        """Takes in `on_round`."""
        self.last = event
        if self.first_model_us is None:
            self.first_model_us = event.estimated_model_us
        family = self.families.get(event.family) or FamilyState(event.family, 1, 0.0)
        subgraph = (event.family, event.subgraph)
        before = self._best_us.get(subgraph)
        covered, improved_at_s = family.covered, family.improved_at_s
        if event.best_us is not None:
            covered += before is None
            if before is None or event.best_us < before:
                self._best_us[subgraph] = event.best_us
                improved_at_s = event.elapsed_s
        self.families[event.family] = replace(
            family,
            trials=family.trials + event.candidates,
            covered=covered,
            share=family.share if event.family_share is None else event.family_share,
            accuracy=_newer(event.family_accuracy, family.accuracy),
            improved_at_s=improved_at_s,
        )

    @property
    def trials(self) -> int:
        """Candidates measured so far."""
        return self.last.trials if self.last else 0

    @property
    def failed(self) -> int:
        """Candidates that failed to build or to run so far."""
        return self.last.build_errors + self.last.run_errors if self.last else 0

    @property
    def speedup(self) -> float | None:
        """How much faster the estimate is than the first complete one; None without two."""
        now = self.last.estimated_model_us if self.last else None
        if self.first_model_us is None or not now:
            return None
        return self.first_model_us / now

    @property
    def latency_words(self) -> str:
        """The estimated latency and what it is better than, or how far the first pass is."""
        event = self.last
        if event is None or event.estimated_model_us is None:
            total = event.subgraphs if event else self.info.subgraphs if self.info else 0
            return f"{event.covered if event else 0} of {total} subgraphs measured"
        now_us = event.estimated_model_us
        words = f"model about {format_latency(now_us)}"
        untuned_us = self.info.untuned_us if self.info else None
        if untuned_us is not None and now_us and untuned_us / now_us >= _LEVEL:
            return f"{words}, {format_ratio(untuned_us / now_us)} faster than untuned"
        if self.speedup is not None and self.speedup >= _LEVEL:
            return f"{words}, {format_ratio(self.speedup)} since the first pass"
        return words

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds left of the budget, never below zero; None without one."""
        if self.info is None or self.info.budget_s is None:
            return None
        return max(0.0, self.info.budget_s - elapsed_s)


def _newer(new: float | None, old: float | None) -> float | None:
    return old if new is None else new
