"""Never a winner by luck: a candidate that seems the best is timed again beside the best so far.

On a shared machine one timing may be off by more than good candidates differ, and the whole machine
may be slower now than a minute ago. So the two are timed in turns, close together, and only their
ratio counts: the newcomer's seconds are told on the clock of the incumbent's record, which keeps
every record of a subgraph comparable with the others whatever the machine did in between.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.measure._measure import Measured

# a candidate within this of the best may be better than it: one timing cannot tell
CLAIM = 1.03
CONTENDERS = 2
TURNS = 2
# as often as the winner may turn out to have been timed once only
MOST_DUELS = 4
# a machine this much slower or faster than when the incumbent was timed is not noise
DRIFT = 0.12


def settle(
    measured: list[Measured],
    incumbent: Measured | None,
    time_again: Callable[[Measured], list[float]],
) -> float:
    """Times those that claim to be the best once more, in turns with the incumbent.

    Parameters
    ----------
    measured
        A round's candidates; the seconds of those timed again are replaced, and those of all are
        put on the incumbent's clock when the machine has drifted from it.
    incumbent
        The best so far, with its artifact; None before there is one.
    time_again
        Gives seconds of one more measurement, empty where it fails.

    Returns
    -------
    float
        How many times slower the machine is than when the incumbent was recorded; 1 if nothing
        was timed again.
    """
    drift = 1.0
    settled: set[int] = set()
    for _ in range(MOST_DUELS):
        best_s = incumbent.run_s if incumbent is not None else math.inf
        claims = _claims(measured, best_s, settled)
        field = claims if incumbent is None else [*claims, incumbent]
        if not claims or len(field) + len(settled) < 2:
            break
        seconds: dict[int, list[float]] = {id(one): [] for one in field}
        for _ in range(TURNS):
            for one in field:
                seconds[id(one)] += time_again(one)
        now = _drift(incumbent, seconds)
        if now is None:
            break
        for one in claims:
            if seconds[id(one)]:
                one.retime([s / now for s in seconds[id(one)]])
        if not settled:
            drift = now
            _follow(measured, claims, seconds, drift)
        settled |= {id(one) for one in claims}
    return drift


def _claims(measured: list[Measured], best_s: float, settled: set[int]) -> list[Measured]:
    """The fastest that were timed once only, while one of them would be the winner."""
    near = [m for m in measured if math.isfinite(m.run_s) and m.run_s < CLAIM * best_s]
    near.sort(key=lambda m: m.run_s)
    if near and id(near[0]) in settled:
        return []
    return [m for m in near if id(m) not in settled][:CONTENDERS]


def _drift(incumbent: Measured | None, seconds: dict[int, list[float]]) -> float | None:
    """How much slower the incumbent is now; None if it could not be timed again."""
    if incumbent is None:
        return 1.0
    again = seconds[id(incumbent)]
    return statistics.median(again) / incumbent.run_s if again else None


def _follow(
    measured: list[Measured],
    claims: list[Measured],
    seconds: dict[int, list[float]],
    drift: float,
) -> None:
    """Puts what was timed once on the incumbent's clock, if the machine has left it."""
    if abs(math.log(drift)) <= DRIFT:
        return
    for other in measured:
        # a claim that could not be timed again is on the machine's clock of today too
        again = other in claims and seconds[id(other)]
        if not again and math.isfinite(other.run_s):
            other.retime([float(s) / drift for s in other.runner_result.run_secs])
