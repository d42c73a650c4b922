"""Policies replayed on a network's table: measurements until it is nearly as good as known.

`replay_stock` is MetaSchedule's way: one model of all subgraphs, random candidates until it has
seen 100, a first round of every subgraph, then the gradient over rounds (its
``task_scheduler/gradient_based.cc``; Ansor, arXiv 2006.06762, section 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from costmodels.learner import Learner
from familyseer.laboratory.pool import PoolRounds
from familyseer.laboratory.tables import NetworkTable
from familyseer.search._loop import BudgetLoop
from familyseer.search._task import TaskState
from familyseer.tactics import Tactics

WITHIN = (0.05, 0.02, 0.01)
STOCK_WARM_UP, STOCK_ROUND = 100, 64
STOCK_ALPHA, STOCK_WINDOW = 0.2, 3


@dataclass
class Outcome:
    """One replay.

    Attributes
    ----------
    latency_s
        The network's estimated latency after each measurement, infinite before all subgraphs have
        one.
    reached
        Tolerance -> measurements until within it of the best known; the size of the table if never.
    """

    latency_s: list[float]
    reached: dict[float, int]


class _Watch:
    def __init__(self, table: NetworkTable) -> None:
        self.latency_s: list[float] = []
        self.best_s = table.best_s
        self.size = sum(len(r) for r in table.subgraphs)
        self.arrived = False

    def __call__(self, states: list[TaskState]) -> bool:
        """Books a measurement; whether all that is asked has been reached."""
        self.latency_s.append(sum(s.subgraph.weight * s.best_s for s in states))
        self.arrived = self.latency_s[-1] <= (1 + min(WITHIN)) * self.best_s
        return self.arrived

    def outcome(self) -> Outcome:
        latency = np.asarray(self.latency_s)
        reached = {}
        for share in WITHIN:
            there = np.flatnonzero(latency <= (1 + share) * self.best_s)
            reached[share] = int(there[0]) + 1 if len(there) else self.size
        return Outcome(self.latency_s, reached)


def replay(
    table: NetworkTable,
    *,
    seed: int,
    tactics: Tactics | None = None,
    method: str = "op",
    max_trials: int | None = None,
) -> Outcome:
    """The budget loop with some tactics on a network's table."""
    tactics = tactics or Tactics()
    learner = Learner(seed=seed, shared=tactics.shared, own=tactics.own, local=tactics.local)
    watch = _Watch(table)
    rounds = PoolRounds(
        table,
        learner,
        method=method,
        max_trials=max_trials,
        tactics=tactics,
        seed=seed,
        stop_when=watch,
    )
    # a table takes the place of all that the rounds do
    BudgetLoop(rounds).run()  # type: ignore[arg-type]
    return watch.outcome()


def replay_stock(
    table: NetworkTable,
    *,
    seed: int,
    round_trials: int = STOCK_ROUND,
    max_trials: int | None = None,
) -> Outcome:
    """MetaSchedule's way on the same table.

    Parameters
    ----------
    round_trials
        Candidates in a round, 64 where users leave it alone.
    """
    learner = Learner(seed=seed, shared=False, local=False)
    watch = _Watch(table)
    everything_off = Tactics(**dict.fromkeys(Tactics.names(), False))
    rounds = PoolRounds(
        table,
        learner,
        max_trials=max_trials,
        tactics=everything_off,
        warm_up=STOCK_WARM_UP,
        analytic=False,
        seed=seed,
        stop_when=watch,
    )
    for state in rounds.states:
        learner.assign(state.subgraph.key, "all")
        state.family = "all"
    histories: dict[int, list[float]] = {id(s): [] for s in rounds.states}
    waiting = list(rounds.states)
    while rounds.max_trials is None or rounds.trials < rounds.max_trials:
        chosen = waiting.pop(0) if waiting else _stock_choice(rounds.states, histories)
        if chosen is None:
            break
        state = chosen
        plan = rounds.plan(state, "steepest", round_trials)
        if plan.schedules:
            rounds.carry_out(plan)
            histories[id(state)].append(state.best_s)
    return watch.outcome()


def _stock_choice(states: list[TaskState], histories: dict[int, list[float]]) -> TaskState | None:
    gradients = []
    for state in states:
        history = histories[id(state)]
        if state.exhausted or not history:
            gradients.append(-math.inf)
            continue
        n, best = len(history), state.best_s
        before = history[n - 1 - STOCK_WINDOW] if n > STOCK_WINDOW else 0.0
        backward = (before - best) / STOCK_WINDOW if n > STOCK_WINDOW else 0.0
        slope = STOCK_ALPHA * backward + (1 - STOCK_ALPHA) * (best / n)
        gradients.append(state.subgraph.weight * slope if math.isfinite(best) else math.inf)
    if not gradients or max(gradients) == -math.inf:
        return None
    return states[int(np.argmax(gradients))]
