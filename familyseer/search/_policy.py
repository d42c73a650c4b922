"""Where the next second goes: the steepest subgraph, and the sibling worth a short look.

Ansor's task scheduler (arXiv 2006.06762, section 6) and MetaSchedule's follow the gradient of the
model's latency over *rounds*; rounds of different subgraphs differ tenfold in what they cost, so
this one follows it over seconds. Foreseeing is FamilySeer's (arXiv 2201.00194): after a round, the
steepest sibling in the same family is measured briefly, on candidates that the family's model,
which has just learnt something, holds to be good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from familyseer.search._task import TaskState

RECENT_ROUNDS = 2
STALL_FACTOR = 0.7
# a subgraph is not expected to get faster than this multiple of its family's best throughput
THROUGHPUT_HEADROOM = 2.0
SLOPE_SHARE = 0.4
FORESEE_ACCURACY = 0.6
# a foreseen candidate must be predicted to be this much faster than the best: equals are many, and
# measuring them is what slowed foreseeing down on the recorded tables
FORESEE_GAIN = 1.05
# a round shrinks while the model puts the best candidate among the first, and grows when not
SHRINK, GROW, LEAST_APPETITE = 0.75, 1.35, 0.5
FIRST_PLACES = 0.35


def estimated_latency_s(states: Iterable[TaskState]) -> float | None:
    """The model's latency as the weighted sum of its subgraphs' best times.

    None while any subgraph has no valid schedule.
    """
    total = 0.0
    for state in states:
        if not state.covered:
            return None
        total += state.subgraph.weight * state.best_s
    return total


def best_throughput(states: Iterable[TaskState]) -> dict[str, float]:
    """The most operations a second that any subgraph of each family has reached, by family."""
    best: dict[str, float] = {}
    for state in states:
        if state.covered and state.subgraph.flops > 1:
            reached = state.subgraph.flops / state.best_s
            best[state.family] = max(best.get(state.family, 0.0), reached)
    return best


def gain_per_second(state: TaskState, throughput: float) -> float:
    """Expected drop of the model's latency, in seconds, for a second spent on a subgraph.

    It mixes what the last rounds brought with what may still be there: no more than the best time
    itself, nor than the distance to the family's best throughput, spread over as long as the
    subgraph has had already.

    Parameters
    ----------
    throughput
        The best of its family in operations a second, 0 while there is none.
    """
    if state.exhausted:
        return 0.0
    if not state.covered:
        # without a valid schedule nothing is known: worth most early, less with every failure
        return math.inf if state.rounds == 0 else state.subgraph.flops * STALL_FACTOR**state.rounds
    spent = max(state.seconds, 1e-3)
    possible = state.best_s
    if throughput > 0 and state.subgraph.flops > 1:
        floor_s = state.subgraph.flops / (THROUGHPUT_HEADROOM * throughput)
        possible = max(state.best_s - floor_s, 0.05 * state.best_s)
    slope = _recent_slope(state)
    hope = possible / spent
    mixed = SLOPE_SHARE * slope + (1 - SLOPE_SHARE) * hope
    return state.subgraph.weight * mixed * STALL_FACTOR**state.stalls


def _recent_slope(state: TaskState) -> float:
    points = [p for p in state.history if math.isfinite(p[1])]
    if len(points) < 2:
        return 0.0
    then, now = points[max(0, len(points) - 1 - RECENT_ROUNDS)], points[-1]
    return max(0.0, then[1] - now[1]) / max(now[0] - then[0], 1e-3)


def steepest(states: Sequence[TaskState]) -> TaskState | None:
    """The subgraph with the most expected gain for a second; None when all are exhausted."""
    open_states = [s for s in states if not s.exhausted]
    if not open_states:
        return None
    reached = best_throughput(states)
    # the first of equals, so that the order of subgraphs decides and not chance
    return max(open_states, key=lambda s: gain_per_second(s, reached.get(s.family, 0.0)))


def why_steepest(state: TaskState, states: Iterable[TaskState]) -> str:
    """What speaks for a subgraph as `steepest` chose it, in a few words."""
    if not state.covered:
        return "none of its candidates has run yet"
    known = [s for s in states if s.covered]
    share = state.subgraph.weight * state.best_s / sum(s.subgraph.weight * s.best_s for s in known)
    finite = [best_s for _, best_s in state.history if math.isfinite(best_s)]
    before_s = finite[max(0, len(finite) - 1 - RECENT_ROUNDS)] if finite else state.best_s
    gained = 1.0 - state.best_s / before_s
    lately = f", {gained:.0%} faster lately" if gained >= 0.005 else ""
    return f"{share:.0%} of the model's time{lately}"


def sibling_to_foresee(
    states: Sequence[TaskState],
    tuned: TaskState,
    accuracy: Callable[[TaskState], float | None],
) -> TaskState | None:
    """The sibling of a subgraph just tuned that deserves a few measurements, if any.

    Parameters
    ----------
    accuracy
        The pairwise ranking accuracy of the family's model on a subgraph, None while unknown. A
        sibling on which the model ranks little better than chance is left to its own rounds; this
        is the waste that FamilySeer's authors report for large search spaces.
    """
    family = [s for s in states if s.family == tuned.family]
    others = [s for s in family if s is not tuned and s.covered and not s.exhausted]
    trusted = []
    for state in others:
        ranked = accuracy(state)
        if ranked is not None and ranked >= FORESEE_ACCURACY:
            trusted.append(state)
    throughput = best_throughput(family).get(tuned.family, 0.0)
    return max(trusted, key=lambda s: gain_per_second(s, throughput), default=None)


def appetite_after(appetite: float, seconds: Sequence[float]) -> float:
    """How long the next round of a subgraph may be, told from where in this one the best was.

    An accurate model needs few measurements to confirm what it knows, so rounds shorten while it
    is right, as speculation lengthens while it is confirmed.

    Parameters
    ----------
    appetite
        Share of a full round that this one was, in (0, 1].
    seconds
        What was measured, best predicted first; infinite for a failure.
    """
    if len(seconds) < 3 or not any(math.isfinite(s) for s in seconds):
        return appetite
    place = list(seconds).index(min(seconds))
    right = place < max(1.0, FIRST_PLACES * len(seconds))
    return min(1.0, max(LEAST_APPETITE, appetite * (SHRINK if right else GROW)))
