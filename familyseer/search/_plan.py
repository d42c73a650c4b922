"""What a round is to measure, and the builds of it that were started before its turn."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from familyseer.search._task import TaskState


@dataclass
class Plan:
    """Candidates of one subgraph that wait for their round.

    Attributes
    ----------
    kind
        ``first``, ``steepest`` or ``foresee``.
    schedules
        Best predicted first.
    search_s
        Wall-clock seconds that finding them took.
    why
        Why this subgraph, for people.
    builds
        Of the schedules, where they were started ahead of the round; else empty.
    """

    kind: str
    state: TaskState
    schedules: list[Any]
    search_s: float
    why: str = ""
    builds: list[Future[Any]] = field(default_factory=list)

    def start_builds(self, builder: Any, target: Any, timeout_s: float) -> None:
        """Has a `WarmBuilder` build the candidates, within so many seconds each."""
        self.builds = [builder.start(sch.mod, target, timeout_s) for sch in self.schedules]

    def drop_builds(self, builder: Any, first: int = 0) -> None:
        """Gives up the builds that were started ahead, from one on."""
        for build in self.builds[first:]:
            builder.drop(build)
        del self.builds[first:]
