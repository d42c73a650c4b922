"""Timing things that compete: in turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    finish: Callable[[], object] = lambda: None,
    shortest_s: float = 5e-3,
    pause_s: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of a call of each run, a number a round, after two that are not counted.

    Parameters
    ----------
    runs
        What to call, by name; rounds take them in this order and from behind by turns, so that
        none always comes after the same other one.
    repeats
        Rounds that count.
    finish
        Called before each start and each end, to wait for a device to be done.
    shortest_s
        A turn calls its run as often as, by a round that is not counted, takes so long.
    pause_s
        Wait before each turn: a BLAS's threads go on looking for work for a while after a product,
        at the expense of whoever comes next.
    """

    def turn(run: Callable[[], object], calls: int) -> float:
        finish()
        time.sleep(pause_s)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        finish()
        return (time.perf_counter() - start) / calls

    # the first call of all compiles, loads and allocates, so it says nothing of how long one takes
    for run in runs.values():
        run()
    first = {name: turn(run, 1) for name, run in runs.items()}
    calls = {name: math.ceil(shortest_s / max(first[name], 1e-6)) for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(repeats):
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(turn(runs[name], max(1, calls[name])))
    return seconds
