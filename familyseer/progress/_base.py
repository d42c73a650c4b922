"""The contract between the driver of a run and whoever watches it.

The driver calls, all from one thread and in this order:

1. `Observer.on_phase` whenever the kind of work changes: ``loading``, ``untuned``, ``first pass``,
   ``tuning``, ``compiling``, ``checking``. Phases may be skipped, and the first comes before
   `Observer.on_start`.
2. `Observer.on_start` once, as soon as the families are known.
3. `Observer.on_round` after every measured round.
4. `Observer.on_message` at any time, for a line that the user should read (a subgraph was given up,
   a worker was replaced).
5. `Observer.on_end` once, with the summary, unless the run fails.

Whoever made the observer uses it as a context manager around the run, so that a terminal is put
back in order when the run raises. An observer never raises and never takes noticeable time: a run
is not slower, and does not fail, because somebody watches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar

RoundKind = Literal["first", "steepest", "foresee"]
_Self = TypeVar("_Self", bound="Observer")


@dataclass(frozen=True)
class FamilyInfo:
    """A family as a run begins.

    Attributes
    ----------
    name
        The family's name, unique in the run.
    members
        Names of its subgraphs.
    share
        Its part of the model's latency before tuning (of its operations where no latency is
        known), 0 to 1.
    """

    name: str
    members: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class RunInfo:
    """What is known when tuning begins.

    Attributes
    ----------
    model
        The model's name.
    target
        The target for people, as `familyseer.target.describe_target` writes it.
    budget_s
        Wall-clock seconds of the whole run from the start of the process; None for no limit.
    trials
        The most candidates that are measured; None for no limit.
    families
        Largest share first.
    untuned_us
        The untuned model's latency in microseconds, measured end to end; None if it was not.
    """

    model: str
    target: str
    budget_s: float | None
    trials: int | None
    families: tuple[FamilyInfo, ...]
    untuned_us: float | None = None

    @property
    def subgraphs(self) -> int:
        """Subgraphs in all families."""
        return sum(len(family.members) for family in self.families)


@dataclass(frozen=True)
class RoundEvent:
    """One measured round.

    Attributes
    ----------
    elapsed_s
        Seconds since the process began.
    trials, build_errors, run_errors
        Candidates measured so far in the run, and those of them that failed to build or to run.
    subgraph, family
        Names of the subgraph tuned and of its family.
    kind
        Why this subgraph: ``first`` (each subgraph once), ``steepest`` (it promised the most), or
        ``foresee`` (a sibling of the steepest).
    why
        The reason for it in a few words; empty where it is not told.
    candidates
        Candidates measured in this round.
    best_us
        The subgraph's best latency so far in microseconds; None while no candidate ran.
    estimated_model_us
        Sum over subgraphs of weight times best latency, in microseconds; None while a subgraph
        has none.
    covered, subgraphs
        Subgraphs that have a latency, and all of them.
    family_accuracy
        How well the family's cost model ranks candidates, 0 to 1; None before it has learned.
    family_share
        The family's part of the estimated latency now, 0 to 1; None where unknown.
    """

    elapsed_s: float
    trials: int
    build_errors: int
    run_errors: int
    subgraph: str
    family: str
    kind: RoundKind
    candidates: int
    best_us: float | None
    estimated_model_us: float | None
    covered: int
    subgraphs: int
    family_accuracy: float | None = None
    family_share: float | None = None
    why: str = ""


class Observer:
    """Watches a run and does nothing; see the module for what is called when."""

    def on_start(self, info: RunInfo) -> None:
        """The families are known and tuning begins."""

    def on_phase(self, name: str) -> None:
        """The kind of work changes to `name`."""

    def on_round(self, event: RoundEvent) -> None:
        """A round has been measured."""

    def on_message(self, text: str) -> None:
        """Something happened that the user should read, in one line."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """The library is written; `summary` is what the run left in ``summary.json``."""

    def close(self) -> None:
        """Gives the terminal back. May be called more than once."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
