"""Replays on a small table whose times are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodels.learner import Learner
from familyseer.laboratory.pool import PoolPlan, PoolRounds
from familyseer.laboratory.replays import STOCK_WARM_UP, WITHIN, replay, replay_stock
from familyseer.laboratory.tables import NetworkTable
from familyseer.tactics import Tactics
from tests.familyseer.laboratory.synthetic import make_table, without_features

EVERYTHING_OFF = Tactics(**dict.fromkeys(Tactics.names(), False))


@pytest.fixture(scope="module")
def table() -> NetworkTable:
    return make_table()


def rounds_on(table: NetworkTable, **options: Any) -> PoolRounds:
    return PoolRounds(table, Learner(), **options)


def size_of(table: NetworkTable) -> int:
    return sum(len(r) for r in table.subgraphs)


@pytest.mark.parametrize("policy", [replay, replay_stock])
def test_a_replay_reaches_the_best_and_then_ends(table: NetworkTable, policy: Any) -> None:
    outcome = policy(table, seed=0)
    latency = outcome.latency_s
    assert latency[-1] <= (1 + min(WITHIN)) * table.best_s
    assert min(latency[:-1]) > (1 + min(WITHIN)) * table.best_s
    assert outcome.reached[min(WITHIN)] == len(latency) <= size_of(table)
    assert math.isinf(latency[0])
    assert (np.diff([s for s in latency if math.isfinite(s)]) <= 0).all()
    assert outcome.reached[0.05] <= outcome.reached[0.02] <= outcome.reached[0.01]


@pytest.mark.parametrize("policy", [replay, replay_stock])
def test_the_same_seed_has_the_same_outcome(policy: Any) -> None:
    # untold, so that no replay is over before chances differ
    table = without_features(make_table((60, 50)))
    one, other = (policy(table, seed=3) for _ in range(2))
    assert one == other
    assert policy(table, seed=4) != one


@pytest.mark.parametrize("policy", [replay, replay_stock])
def test_the_trial_limit_is_kept(table: NetworkTable, policy: Any) -> None:
    outcome = policy(without_features(table), seed=0, max_trials=13)
    assert len(outcome.latency_s) == 13
    assert outcome.reached[0.01] == size_of(table)


def test_what_features_tell_saves_measurements(table: NetworkTable) -> None:
    told, untold = (
        [replay(t, seed=seed).reached[0.05] for seed in range(2)]
        for t in (table, without_features(table))
    )
    assert np.mean(told) < 0.75 * np.mean(untold)


def test_stocks_first_hundred_do_not_look_at_features(table: NetworkTable) -> None:
    seen = [replay_stock(t, seed=1).latency_s for t in (table, without_features(table))]
    assert seen[0][:STOCK_WARM_UP] == seen[1][:STOCK_WARM_UP]
    assert seen[0] != seen[1]
    ours = [replay(t, seed=1).latency_s for t in (table, without_features(table))]
    assert ours[0][:STOCK_WARM_UP] != ours[1][:STOCK_WARM_UP]


def test_without_tactics_a_replay_still_ends(table: NetworkTable) -> None:
    outcome = replay(table, seed=0, tactics=EVERYTHING_OFF)
    assert outcome.reached[0.01] == len(outcome.latency_s)


def test_every_candidate_is_measured_once() -> None:
    table = make_table((40, 30))
    rounds = rounds_on(table)
    measured: dict[int, list[int]] = {0: [], 1: []}
    for _ in range(30):
        for number, state in enumerate(rounds.states):
            plan = rounds.plan(state, "steepest", 8)
            measured[number] += [trial.index for trial in rounds.carry_out(plan)]
    assert sorted(measured[0]) == list(range(40))
    assert sorted(measured[1]) == list(range(30))
    assert all(state.exhausted for state in rounds.states)
    assert rounds.trials == 70
    assert [s.best_s for s in rounds.states] == [r.best_s for r in table.subgraphs]


def test_time_passes_by_what_was_worked() -> None:
    rounds = rounds_on(make_table((40, 30)))
    state = rounds.states[0]
    plan = rounds.plan(state, "first", 8)
    searched = rounds.clock.now()
    assert searched > 0
    rounds.carry_out(plan)
    assert rounds.clock.now() > searched + 8 * 0.03
    assert rounds.typical_trial_s() == pytest.approx(state.seconds / 8)


def test_what_is_in_flight_is_neither_taken_again_nor_known() -> None:
    rounds = rounds_on(make_table((40, 30)))
    state, sibling = rounds.states
    pools = [rounds._pools[id(s)] for s in rounds.states]
    rounds.carry_out(rounds.plan(state, "first", 8))
    known = pools[0].fastest(40)
    plan = rounds.plan(state, "steepest", 8)
    seen: dict[str, Any] = {}

    def meanwhile() -> None:
        seen["next"] = rounds.plan(state, "steepest", 8).schedules
        seen["fastest"] = pools[0].fastest(40)
        seen["trials"] = rounds.trials

    rounds.carry_out(plan, meanwhile)
    assert not set(seen["next"]) & set(plan.schedules)
    assert seen["trials"] == 8
    assert seen["fastest"] == known
    assert set(pools[0].fastest(40)) > set(known)
    assert sibling.trials == 0


def test_a_failure_is_no_candidate_to_breed_from() -> None:
    table = make_table((40, 30))
    broken = replace(table.subgraphs[0], seconds=np.full(40, np.inf))
    broken.seconds[7] = 1e-3
    rounds = rounds_on(replace(table, subgraphs=[broken, table.subgraphs[1]]))
    state = rounds.states[0]
    while not state.exhausted:
        rounds.carry_out(rounds.plan(state, "steepest", 16))
    assert rounds._pools[id(state)].fastest(5) == [7]


def test_siblings_best_are_tried_first() -> None:
    def first_round(seeds: bool, seed: int) -> float:
        # two subgraphs alike, and features that say nothing: only the sibling can tell
        table = without_features(make_table((200, 200)), seed)
        rounds = PoolRounds(
            table,
            Learner(shared=False, own=False, local=False),
            tactics=replace(EVERYTHING_OFF, seeds=seeds),
            seed=seed,
        )
        tuned, other = rounds.states
        rounds.carry_out(PoolPlan("first", tuned, list(range(200))))
        rounds.carry_out(rounds.plan(other, "first", 4))
        return other.best_s

    with_seeds = [first_round(True, seed) for seed in range(20)]
    without = [first_round(False, seed) for seed in range(20)]
    assert np.mean(with_seeds) < 0.75 * np.mean(without)


def test_bred_candidates_are_not_met_by_sampling(table: NetworkTable) -> None:
    rounds = rounds_on(table, warm_up=100)
    state = rounds.states[0]
    drawn = table.subgraphs[0].drawn
    assert not drawn.all()
    for _ in range(4):
        plan = rounds.plan(state, "steepest", 16)
        assert len(plan.schedules) == 16
        assert drawn[plan.schedules].all()
        rounds.carry_out(plan)
