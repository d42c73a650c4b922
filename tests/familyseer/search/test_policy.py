"""The policy is arithmetic on task states, so it is checked without TVM or measurement."""

from __future__ import annotations

import math
from typing import Any

import pytest

from familyseer.search._policy import (
    best_throughput,
    estimated_latency_s,
    gain_per_second,
    sibling_to_foresee,
    steepest,
    why_steepest,
)
from familyseer.search._task import ELITE, FULL_ROUND, TaskState
from familyseer.subgraphs import Subgraph


def task(
    index: int,
    *,
    best_s: float = 1e-3,
    seconds: float = 2.0,
    weight: int = 1,
    flops: float = 1e6,
    family: str = "conv",
    history: list[tuple[float, float]] | None = None,
) -> TaskState:
    mod: Any = None
    state = TaskState(Subgraph(index, f"{index:016x}", f"s{index}", mod, weight, flops), family)
    if math.isfinite(best_s):
        state.best_s, state.seconds, state.rounds, state.trials = best_s, seconds, 1, 8
        state.history = history or [(seconds, best_s)]
    return state


def test_latency_is_the_weighted_sum_once_every_subgraph_has_a_schedule() -> None:
    states = [task(0, best_s=1e-3, weight=3), task(1, best_s=2e-3)]
    assert estimated_latency_s(states) == pytest.approx(5e-3)
    assert estimated_latency_s([*states, task(2, best_s=math.inf)]) is None


def test_a_subgraph_that_runs_more_often_is_steeper() -> None:
    assert steepest([task(0), task(1, weight=5)]).index == 1


def test_rounds_that_cost_more_seconds_are_less_steep() -> None:
    cheap, dear = task(0, seconds=1.0), task(1, seconds=10.0)
    assert steepest([dear, cheap]).index == 0


def test_a_subgraph_that_is_still_improving_beats_one_that_stalled() -> None:
    improving = task(0, history=[(1.0, 4e-3), (2.0, 1e-3)])
    stalled = task(1, history=[(1.0, 1e-3), (2.0, 1e-3)])
    stalled.stalls = 2
    assert steepest([stalled, improving]).index == 0


def test_a_subgraph_far_below_its_siblings_throughput_has_more_to_gain() -> None:
    slow = task(0, best_s=1e-3, flops=1e6)
    at_par = task(1, best_s=1e-3, flops=1e8)
    reached = best_throughput([slow, at_par])[slow.family]
    assert gain_per_second(slow, reached) > gain_per_second(at_par, reached)


def test_a_subgraph_without_a_schedule_comes_first_and_then_less_with_every_failure() -> None:
    untouched, tuned = task(0, best_s=math.inf), task(1)
    assert steepest([tuned, untouched]).index == 0
    untouched.rounds = 1
    once = gain_per_second(untouched, 0.0)
    untouched.rounds = 3
    assert gain_per_second(untouched, 0.0) < once


def test_exhausted_subgraphs_are_left_alone() -> None:
    states = [task(0), task(1)]
    for state in states:
        state.exhausted = True
    assert steepest(states) is None
    states[1].exhausted = False
    assert steepest(states).index == 1


def test_two_rounds_without_a_new_candidate_exhaust_a_subgraph() -> None:
    state = task(0)
    state.close_round(0.1, measured=0)
    assert not state.exhausted
    state.close_round(0.1, measured=0)
    assert state.exhausted


def test_foreseeing_stays_in_the_family_and_needs_a_model_that_ranks_well() -> None:
    tuned, sibling, stranger = task(0), task(1, weight=2), task(2, weight=9, family="pool")
    states = [tuned, sibling, stranger]
    assert sibling_to_foresee(states, tuned, lambda _: 0.9) is sibling
    assert sibling_to_foresee(states, tuned, lambda _: 0.5) is None
    assert sibling_to_foresee(states, tuned, lambda _: None) is None


def test_a_stall_is_a_round_that_brought_less_than_one_per_cent() -> None:
    state = task(0, best_s=1e-3)
    state.best_s = 0.995e-3
    state.close_round(1.0, measured=8)
    assert state.stalls == 8 / FULL_ROUND
    state.best_s = 0.5e-3
    state.close_round(1.0, measured=8)
    assert state.stalls == 0


def test_only_the_fastest_candidates_are_kept_to_breed_from() -> None:
    state = task(0)
    for i in range(2 * ELITE):
        state.remember(float(2 * ELITE - i), i)
    assert [run_s for run_s, _ in state.elite] == [float(i) for i in range(1, ELITE + 1)]


def test_people_are_told_what_speaks_for_a_subgraph() -> None:
    stalled = task(0, best_s=1e-3, weight=3)
    better = task(1, best_s=1e-3, history=[(1.0, 2e-3), (2.0, 1e-3)])
    unmeasured = task(2, best_s=math.inf)
    states = [stalled, better, unmeasured]
    assert why_steepest(stalled, states) == "75% of the model's time"
    assert why_steepest(better, states) == "25% of the model's time, 50% faster lately"
    assert why_steepest(unmeasured, states) == "none of its candidates has run yet"
