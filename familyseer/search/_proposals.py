"""Candidates for one subgraph: sampled from its design space, evolved under the cost model."""

from __future__ import annotations

import importlib
import logging
import time
from typing import Any

import numpy as np

from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule

_sample = tvm.get_global_func(
    "s_tir.meta_schedule.SearchStrategyEvolutionarySearchSampleInitPopulation"
)
_evolve = tvm.get_global_func(
    "s_tir.meta_schedule.SearchStrategyEvolutionarySearchEvolveWithCostModel"
)
_structural_hash = importlib.import_module("tvm_ffi").structural_hash

POPULATIONS = (16, 32, 64, 128, 256)
GENERATIONS = 2
# a share of every round goes to candidates that no model chose, or the model never meets
# what it is wrong about
RANDOM_SHARE = 0.1
_NO_LIMIT = 1 << 30


def quiet_logger() -> logging.Logger:
    """The logger given to TVM's tuning contexts, which would print a page a generation."""
    logger = logging.getLogger("familyseer.tvm")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return logger


def new_context(subgraph: Subgraph, target: Any, seed: int, threads: int) -> Any:
    """A tuning context for a subgraph, with MetaSchedule's own design space for the target."""
    return ms.TuneContext(
        mod=subgraph.mod,
        target=target,
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.EvolutionarySearch(),
        task_name=subgraph.name,
        # from the subgraph and not from its position: another model's copy searches alike
        rand_state=1 + (int(subgraph.key, 16) + seed) % (2**31 - 2),
        num_threads=threads,
        logger=quiet_logger(),
    )


class Proposals:
    """Proposes candidates for one subgraph, none twice.

    Parameters
    ----------
    context
        A tuning context of the subgraph with an initialised space generator. Its search strategy
        is used as it is unless it is MetaSchedule's evolutionary search, which is driven here with
        a population that fits the time there is.
    database, cost_model
        What the search strategy reads.
    max_trials
        Most candidates that will ever be asked for.

    Attributes
    ----------
    seconds_per_trace
        What applying and ranking one trace has cost lately.
    used_up
        Set when a sample held so few different schedules that the space must be tiny, and all of
        them have been proposed.
    """

    def __init__(
        self, context: Any, database: Any, cost_model: Any, max_trials: int | None
    ) -> None:
        self.context = context
        self.database = database
        self.cost_model = cost_model
        self.seconds_per_trace = 0.0
        self.used_up = False
        self._max_trials = max_trials or _NO_LIMIT
        self._seen: set[int] = set()
        self._evolving = isinstance(context.search_strategy, ms.search_strategy.EvolutionarySearch)
        self._searches: dict[int, Any] = {}
        self._spaces: list[Any] | None = None
        self._started = False

    @property
    def spaces(self) -> list[Any]:
        """The design spaces of the subgraph, generated when first asked for."""
        if self._spaces is None:
            self._spaces = list(self.context.generate_design_space())
        return self._spaces

    def propose(
        self, count: int, *, elite: list[Any], evolve: bool, time_for_search_s: float
    ) -> tuple[list[Any], np.ndarray]:
        """At most `count` new schedules, best predicted first, and their predicted scores.

        Parameters
        ----------
        elite
            Measured schedules, fastest first, to breed from.
        evolve
            Whether the cost model is worth evolving under; otherwise a sample is ranked.
        time_for_search_s
            Seconds that the search may take; the population is sized to it.
        """
        if not self._evolving:
            return self._ask_strategy(count)
        population = self._population(time_for_search_s, count, evolve)
        search = self._search(population)
        parents = elite[: max(1, population // 4)] if evolve else []
        began = time.monotonic()
        fresh = list(_sample(search, max(population - len(parents), count)))
        tried = len(fresh)
        if evolve and fresh:
            best = list(_evolve(search, [*parents, *fresh], 2 * count))
            tried += population * GENERATIONS
        else:
            best = []
        if tried:
            took = (time.monotonic() - began) / tried
            known = self.seconds_per_trace
            self.seconds_per_trace = took if not known else 0.5 * (known + took)
        random_count = max(1, round(RANDOM_SHARE * count)) if best and count > 4 else 0
        picked = self._unseen(best, count - random_count)
        if best:
            picked += self._unseen(fresh, count - len(picked))
            return picked, self.scores(picked)
        unseen = self._unseen(fresh, len(fresh), mark=False)
        scores = self.scores(unseen)
        order = np.argsort(-scores, kind="stable")[:count]
        picked = [unseen[i] for i in order]
        self.used_up = len(fresh) >= 8 and len(unseen) <= min(count, len(fresh) // 4)
        self._unseen(picked, len(picked))
        return picked, scores[order]

    def scores(self, schedules: list[Any]) -> np.ndarray:
        """Predicted scores of schedules, higher is better."""
        if not schedules:
            return np.zeros(0)
        candidates = [ms.MeasureCandidate(sch, []) for sch in schedules]
        return np.asarray(self.cost_model.predict(self.context, candidates), dtype=float)

    def forget(self, schedules: list[Any]) -> None:
        """Lets schedules that were proposed but never measured be proposed again."""
        for sch in schedules:
            self._seen.discard(_structural_hash(sch.mod))

    def close(self) -> None:
        """Lets go of the search strategies' state."""
        if self._started:
            self.context.post_tuning()
            self._started = False
        for search in self._searches.values():
            search.post_tuning()
        self._searches.clear()

    def notify(self, candidates: list[Any], results: list[Any]) -> None:
        """Tells a strategy of the user's own what its candidates gave."""
        if self._started:
            self.context.notify_runner_results(candidates, results)

    def _population(self, seconds: float, count: int, evolve: bool) -> int:
        if not evolve:
            return 4 * count
        per_trace = self.seconds_per_trace or 2e-3
        wanted = seconds / (per_trace * (GENERATIONS + 1))
        fitting = [p for p in POPULATIONS if p <= wanted]
        return max(fitting[-1] if fitting else POPULATIONS[0], count + count // 2)

    def _search(self, population: int) -> Any:
        if population not in self._searches:
            strategy = ms.search_strategy.EvolutionarySearch(
                population_size=population,
                init_min_unmeasured=1,
                max_fail_count=2,
                genetic_num_iters=GENERATIONS,
                eps_greedy=0.0,
            )
            context = ms.TuneContext(
                mod=self.context.mod,
                target=self.context.target,
                space_generator=self.context.space_generator.clone(),
                search_strategy=strategy,
                task_name=self.context.task_name,
                rand_state=1 + (self.context.rand_state + population) % (2**31 - 2),
                num_threads=self.context.num_threads,
                logger=quiet_logger(),
            )
            context.pre_tuning(
                self._max_trials, population, self.spaces, self.database, self.cost_model
            )
            # the strategy points into its context, so the context must live as long
            self._searches[population] = _Search(context)
        return self._searches[population].strategy

    def _unseen(self, schedules: list[Any], count: int, mark: bool = True) -> list[Any]:
        kept: list[Any] = []
        found: set[int] = set()
        for sch in schedules:
            if len(kept) >= count:
                break
            digest = _structural_hash(sch.mod)
            if digest in self._seen or digest in found:
                continue
            found.add(digest)
            kept.append(sch)
        if mark:
            self._seen |= found
        return kept

    def _ask_strategy(self, count: int) -> tuple[list[Any], np.ndarray]:
        if not self._started:
            self.context.pre_tuning(
                self._max_trials, count, self.spaces, self.database, self.cost_model
            )
            self._started = True
        candidates = self.context.generate_measure_candidates() or []
        schedules = [candidate.sch for candidate in candidates]
        return schedules, self.scores(schedules)


class _Search:
    def __init__(self, context: Any) -> None:
        self.context = context
        self.strategy = context.search_strategy

    def post_tuning(self) -> None:
        self.context.post_tuning()
