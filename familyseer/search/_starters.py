"""What earlier runs found out, handed to the rounds of one subgraph."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.search._evolution import structural_hash
from familyseer.search._proposals import Source
from familyseer.search._sketch import Sketch
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)


@dataclass
class Starters:
    """What earlier runs found out that helps one subgraph.

    Attributes
    ----------
    traces
        Its own best ones, fastest first: they are measured here before anything else.
    siblings
        Candidates of subgraphs like it, fastest first, one sequence a subgraph.
    """

    traces: Sequence[Any] = ()
    siblings: Sequence[Sequence[Source]] = ()


class Start:
    """What is left of the starters of one subgraph.

    Parameters
    ----------
    mod
        The subgraph's TIR.
    """

    def __init__(self, mod: Any, starters: Starters) -> None:
        self._mod = mod
        self._traces = deque(starters.traces)
        self._siblings = starters.siblings
        self._sources: deque[Source] | None = None
        self._opened: set[int] = set()

    def openers(self, count: int) -> list[Any]:
        """At most `count` of the earlier best schedules, as they were, not given before."""
        found: list[Any] = []
        while self._traces and len(found) < count:
            schedule = _replay(self._mod, self._traces.popleft())
            if schedule is not None:
                found += self.unopened([schedule])
                self._opened.add(int(structural_hash(schedule.mod)))
        return found

    def unopened(self, schedules: list[Any]) -> list[Any]:
        """Those of the schedules that are none of the openers."""
        if not self._opened:
            return schedules
        return [s for s in schedules if int(structural_hash(s.mod)) not in self._opened]

    def sources(
        self, sketches: Callable[[], Sequence[Sketch]], subgraphs: int, each: int
    ) -> deque[Source]:
        """Siblings' candidates, the most alike first; whoever re-fits one takes it out.

        Parameters
        ----------
        sketches
            Gives the subgraph's sketches, which take a while to make.
        subgraphs, each
            How many siblings, and how many candidates of each.
        """
        if self._sources is None:
            mine = sketches() if self._siblings else ()
            gaps = [
                min((sketch.distance(one[0][0]) for sketch in mine), default=math.inf)
                for one in self._siblings
            ]
            order = sorted((gap, i) for i, gap in enumerate(gaps) if math.isfinite(gap))
            near = [self._siblings[i] for _, i in order[:subgraphs]]
            self._sources = deque(
                one[rank] for rank in range(each) for one in near if rank < len(one)
            )
        return self._sources


def _replay(mod: Any, trace: Any) -> Any | None:
    """The very schedule that was measured, or None where this TVM cannot follow its trace."""
    schedule = tvm.s_tir.Schedule(mod, error_render_level="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=False)
    except (tvm.s_tir.ScheduleError, RuntimeError, ValueError, IndexError):
        return None
    return schedule
