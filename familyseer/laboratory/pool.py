"""Rounds over recorded candidates: exact, without noise, thousands of measurements a second.

The budget loop and the cost models are those of a live run; only the candidates come from a table
instead of a search, and their times from the table instead of a machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels.features import Batch
from costmodels.learner import Learner
from familyseer.laboratory.clock import ReplayClock
from familyseer.laboratory.tables import NetworkTable, Recorded
from familyseer.search._cascade import DecisionModel
from familyseer.search._decisions import DecisionSpace, far_from
from familyseer.search._policy import FORESEE_GAIN, appetite_after
from familyseer.search._proposals import RANDOM_SHARE, SEED_SHARE
from familyseer.search._rounds import (
    SAMPLES_TO_EVOLVE,
    SAMPLES_TO_EVOLVE_FIRST,
    listens,
)
from familyseer.search._siblings import NEAREST_SIBLINGS, SEEDS_OF_EACH
from familyseer.search._task import TaskState
from familyseer.subgraphs import Subgraph
from familyseer.tactics import Tactics

Indices = npt.NDArray[np.int64]

# candidates that the full model looks at for a round, as in a live run
APPLIED = 64
RUN_S = 0.03
# sum of squared differences of logarithms of factors: what is farther is another candidate, and a
# table holds few of those that re-fitting would give
NEAR = 4.0


@dataclass
class Trial:
    """One recorded candidate, as a round's result."""

    index: int
    run_s: float

    @property
    def build_failed(self) -> bool:
        """Whether it failed; a table does not tell building from running."""
        return not math.isfinite(self.run_s)

    @property
    def run_failed(self) -> bool:
        """Counted as a build's failure."""
        return False


@dataclass
class PoolPlan:
    """Recorded candidates of one subgraph that wait for their round, best predicted first."""

    kind: str
    state: TaskState
    schedules: list[int]
    why: str = ""


class _Pool:
    """What is known of one subgraph's table in one replay."""

    def __init__(self, recorded: Recorded, rng: np.random.Generator) -> None:
        self.recorded = recorded
        self.rng = rng
        self.spaces = [DecisionSpace(slots) for slots in recorded.sketches]
        self.open = np.ones(len(recorded), dtype=np.bool_)
        # not all that is closed: what is planned ahead does not know the results in flight
        self.measured = np.zeros(len(recorded), dtype=np.bool_)
        self.looked_at: dict[int, float] = {}
        self.seeded: set[tuple[int, int]] = set()
        self.heard: set[tuple[int, int]] = set()
        self.vectors = [recorded.vector(i) for i in range(len(recorded))]

    def samplable(self) -> Indices:
        """Open candidates that sampling can meet: those bred by a search only when it is all."""
        drawn = np.flatnonzero(self.open & self.recorded.drawn)
        return drawn if len(drawn) else np.flatnonzero(self.open)

    def fastest(self, count: int) -> list[int]:
        measured = np.flatnonzero(self.measured & np.isfinite(self.recorded.seconds))
        order = measured[np.argsort(self.recorded.seconds[measured], kind="stable")]
        return [int(i) for i in order[:count]]

    def is_far(self, index: int) -> bool:
        """Whether nothing that was measured is a step away: the same but for one decision."""
        kind = self.recorded.sketch[index]
        measured = np.flatnonzero(self.measured & (self.recorded.sketch == kind))
        others = [self.vectors[int(i)] for i in measured]
        return far_from(self.spaces[int(kind)], self.vectors[index], others)

    def new_from(self, sibling: _Pool, index: int, known: set[tuple[int, int]]) -> int | None:
        """As `nearest` to a sibling's candidate, which is known from now on; None if it was."""
        if (mark := (id(sibling), index)) in known:
            return None
        known.add(mark)
        space = sibling.spaces[int(sibling.recorded.sketch[index])]
        return self.nearest(space, sibling.vectors[index])

    def nearest(self, space: DecisionSpace, vector: Any) -> int | None:
        """The open candidate whose decisions are nearest to a sibling's, re-fitted; None if far."""
        best, best_gap = None, NEAR
        for index, mine in enumerate(self.spaces):
            fitted = mine.refit(space, vector)
            if fitted is None:
                continue
            of_sketch = np.flatnonzero(self.open & (self.recorded.sketch == index))
            if not len(of_sketch):
                continue
            rows = mine.encode([self.vectors[int(i)] for i in of_sketch])
            gaps = np.nansum(np.square(rows - mine.encode([fitted])), axis=1)
            nearest = int(np.argmin(gaps))
            if gaps[nearest] < best_gap:
                best, best_gap = int(of_sketch[nearest]), float(gaps[nearest])
        return best


class PoolRounds:
    """Plans and carries out rounds on a network's table; takes the place of `search.Rounds`.

    Parameters
    ----------
    table
        The network's.
    learner
        The cost model; its families are set here.
    method
        How families are formed.
    max_trials
        Most candidates measured in all, or None.
    tactics
        What the search does beyond sampling and ranking.
    warm_up
        Candidates are drawn at random until so many were measured.
    analytic
        Whether the cost model gets the analytic estimate.
    seed
        Of what is drawn.
    stop_when
        Called after each measurement; the replay ends when it says so.
    """

    def __init__(
        self,
        table: NetworkTable,
        learner: Learner,
        *,
        method: str = "op",
        max_trials: int | None = None,
        tactics: Tactics | None = None,
        warm_up: int = 0,
        analytic: bool = True,
        seed: int = 0,
        stop_when: Callable[[list[TaskState]], bool] = lambda _states: False,
    ) -> None:
        self.clock = ReplayClock()
        self.max_trials = max_trials
        self.tactics = tactics or Tactics()
        self.cost_model = learner
        self.workers = 1
        self.warm_up = warm_up
        self.analytic = analytic
        self.trials = 0
        self.stop_when = stop_when
        self.states = [
            TaskState(Subgraph(i, r.key, r.name, None, r.weight, r.flops), r.families[method])
            for i, r in enumerate(table.subgraphs)
        ]
        for state in self.states:
            learner.assign(state.subgraph.key, state.family)
        self._pools = {
            id(state): _Pool(recorded, np.random.default_rng([seed, i]))
            for i, (state, recorded) in enumerate(zip(self.states, table.subgraphs, strict=True))
        }

    def close(self) -> None:
        """Nothing is held."""

    def typical_trial_s(self) -> float:
        """Seconds of work that a candidate has cost on average; 0 before any."""
        spent = sum(s.seconds for s in self.states)
        return spent / self.trials if self.trials else 0.0

    def plan(self, state: TaskState, kind: str, count: int) -> PoolPlan:
        """At most `count` candidates; as `search.Rounds.plan` does."""
        pool = self._pools[id(state)]
        if self.max_trials is not None:
            count = min(count, self.max_trials - self.trials)
        open_ones = np.flatnonzero(pool.open)
        count = min(count, len(open_ones))
        if count < 1:
            state.exhausted = True
            return PoolPlan(kind, state, [])
        if self.trials < self.warm_up:
            drawn = pool.samplable()
            chosen = _some(pool, drawn, min(count, len(drawn)))
            return PoolPlan(kind, state, [int(i) for i in chosen])
        news: list[int] = []
        seeds: list[int] = []
        if self.tactics.seeds:
            if listens(state, kind, count):
                news = self._news(state, pool)
            seeds = [i for i in self._seeds(state, pool, count) if i not in news]
        known = self.cost_model.experience(state.family)
        evolve = known >= (SAMPLES_TO_EVOLVE_FIRST if kind == "first" else SAMPLES_TO_EVOLVE)
        looked = self._look(
            pool, open_ones, [*news, *seeds], 4 * count if not evolve else APPLIED, evolve
        )
        self.clock.worked(len(looked))
        scores = self._scores(state, pool, looked)
        for index, score in zip(looked, scores, strict=True):
            pool.looked_at[int(index)] = float(score)
        chosen_first, _ = self.cost_model.choose(
            state.subgraph.key, self._batch(pool, looked), count
        )
        ranked = [int(looked[int(i)]) for i in chosen_first]
        ranked += [i for i in map(int, looked) if i not in ranked]
        # later they must earn their place like any other
        reserved = max(1, int(SEED_SHARE * count)) if kind == "first" else 0
        picked = [*news, *[i for i in ranked if i in seeds][:reserved]]
        chance = max(1, round(RANDOM_SHARE * count)) if evolve and count > 4 else 0
        picked += [i for i in ranked if i not in picked][: count - chance - len(picked)]
        rest = np.asarray([i for i in pool.samplable() if int(i) not in picked], dtype=np.int64)
        picked += [int(i) for i in _some(pool, rest, min(count - len(picked), len(rest)))]
        if kind == "foresee":
            picked = self._worth(state, pool, picked)
        final = self._scores(state, pool, np.asarray(picked, dtype=np.int64))
        order = np.argsort(-final, kind="stable")
        return PoolPlan(kind, state, [picked[int(i)] for i in order])

    def build_ahead(self, plan: PoolPlan) -> None:
        """Nothing is built here."""

    def give_up(self, plan: PoolPlan) -> None:
        """Nor is there anything to stop."""

    def carry_out(self, plan: PoolPlan, meanwhile: Callable[[], None] | None = None) -> list[Trial]:
        """Looks up a plan's candidates and learns from them."""
        if meanwhile is not None:
            for index in plan.schedules:  # so that the next plan does not take them too
                self._pools[id(plan.state)].open[index] = False
            meanwhile()
        state, pool = plan.state, self._pools[id(plan.state)]
        chosen = np.asarray(plan.schedules, dtype=np.int64)
        if self.max_trials is not None:
            chosen = chosen[: self.max_trials - self.trials]
        seconds = pool.recorded.seconds[chosen]
        pool.open[chosen] = False
        cost = float(pool.recorded.build_s[chosen].sum() / 2 + RUN_S * len(chosen))
        self.clock.spend(cost)
        done = []
        for index, run_s in zip(chosen, seconds, strict=True):
            state.trials += 1
            self.trials += 1
            state.build_errors += not math.isfinite(run_s)
            if math.isfinite(run_s):
                state.best_s = min(state.best_s, float(run_s))
                state.remember(float(run_s), int(index))
            done.append(Trial(int(index), float(run_s)))
            if self.stop_when(self.states):
                self.max_trials = self.trials
                break
        state.appetite = appetite_after(state.appetite, [t.run_s for t in done])
        chosen, seconds = chosen[: len(done)], seconds[: len(done)]
        pool.measured[chosen] = True
        self.cost_model.learn(state.subgraph.key, self._batch(pool, chosen), seconds)
        state.close_round(cost, len(done))
        state.exhausted = not pool.open.any()
        return done

    def _look(
        self, pool: _Pool, open_ones: Indices, seeds: list[int], count: int, evolve: bool
    ) -> Indices:
        """The open candidates that the full model gets to see."""
        if not evolve:
            open_ones = pool.samplable()
        others = np.asarray([i for i in open_ones if int(i) not in seeds], dtype=np.int64)
        if len(others) > count:
            others = self._sieve(pool, others, count) if evolve else _some(pool, others, count)
        return np.concatenate([np.asarray(seeds, dtype=np.int64), others])

    def _sieve(self, pool: _Pool, others: Indices, count: int) -> Indices:
        model = DecisionModel(pool.spaces, 0)
        if self.tactics.cascade and pool.looked_at:
            known = list(pool.looked_at)
            model.fit(
                [int(pool.recorded.sketch[i]) for i in known],
                [pool.vectors[i] for i in known],
                np.asarray([pool.looked_at[i] for i in known]),
            )
        if not model.ready:
            return _some(pool, others, count)
        ranks = model.rank(
            [int(pool.recorded.sketch[i]) for i in others], [pool.vectors[int(i)] for i in others]
        )
        return others[np.argsort(-ranks, kind="stable")[:count]]

    def _siblings(self, state: TaskState, pool: _Pool) -> list[_Pool]:
        """Those of the subgraph's tuned siblings that are most alike, nearest first."""
        siblings = [
            self._pools[id(s)]
            for s in self.states
            if s.family == state.family and s is not state and s.covered
        ]
        space = pool.spaces[0]
        siblings.sort(key=lambda p: space.distance(p.spaces[0]))
        return siblings[:NEAREST_SIBLINGS]

    def _news(self, state: TaskState, pool: _Pool) -> list[int]:
        """What is nearest to a sibling's fastest and far from all that was measured here."""
        for sibling in self._siblings(state, pool):
            for best in sibling.fastest(1):
                found = pool.new_from(sibling, best, pool.heard)
                if found is not None and pool.is_far(found):
                    return [found]
        return []

    def _seeds(self, state: TaskState, pool: _Pool, count: int) -> list[int]:
        siblings = self._siblings(state, pool)
        seeds: list[int] = []
        for rank in range(SEEDS_OF_EACH):
            for sibling in siblings:
                best = sibling.fastest(SEEDS_OF_EACH)
                if rank >= len(best) or len(seeds) >= count:
                    continue
                found = pool.new_from(sibling, best[rank], pool.seeded)
                if found is not None and found not in seeds:
                    seeds.append(found)
        return seeds

    def _worth(self, state: TaskState, pool: _Pool, picked: list[int]) -> list[int]:
        best = pool.fastest(1)
        if not best or not picked:
            return picked
        scores = self._scores(state, pool, np.asarray([*best, *picked], dtype=np.int64))
        return [
            i
            for i, score in zip(picked, scores[1:], strict=True)
            if score >= FORESEE_GAIN * scores[0]
        ]

    def _batch(self, pool: _Pool, which: Indices) -> Batch:
        return pool.recorded.batch(which, analytic=self.analytic)

    def _scores(self, state: TaskState, pool: _Pool, which: Indices) -> npt.NDArray[np.float64]:
        if not len(which):
            return np.zeros(0)
        return self.cost_model.score(state.subgraph.key, self._batch(pool, which))


def _some(pool: _Pool, which: Indices, count: int) -> Indices:
    return np.asarray(pool.rng.choice(which, count, replace=False), dtype=np.int64)
