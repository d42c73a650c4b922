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
    best_s = incumbent.run_s if incumbent is not None else math.inf
    claims = [m for m in measured if math.isfinite(m.run_s) and m.run_s < CLAIM * best_s]
    claims = sorted(claims, key=lambda m: m.run_s)[:CONTENDERS]
    field = claims if incumbent is None else [*claims, incumbent]
    if not claims or len(field) < 2:
        return 1.0
    seconds: dict[int, list[float]] = {id(one): [] for one in field}
    for _ in range(TURNS):
        for one in field:
            seconds[id(one)] += time_again(one)
    drift = 1.0
    if incumbent is not None:
        again = seconds[id(incumbent)]
        if not again:
            return 1.0
        drift = statistics.median(again) / incumbent.run_s
    for one in claims:
        if seconds[id(one)]:
            one.retime([s / drift for s in seconds[id(one)]])
    if abs(math.log(drift)) > DRIFT:
        for other in measured:
            # a claim that could not be timed again is on the machine's clock of today too
            if not seconds.get(id(other)) and math.isfinite(other.run_s):
                other.retime([float(s) / drift for s in other.runner_result.run_secs])
    return drift
