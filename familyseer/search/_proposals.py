"""Candidates for one subgraph: siblings' seeds, evolved ones, and a few that nobody chose."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from familyseer.search._clock import Clock
from familyseer.search._decisions import Decisions
from familyseer.search._evolution import Applied, Evolution, Genes, structural_hash
from familyseer.search._sketch import Sketch, sketches_of
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule

Source = tuple[Sketch, Decisions]

# candidates applied for a round, at least and at most, however long it may search
LEAST_APPLIED, MOST_APPLIED = 32, 320
# a share of every round goes to candidates that no model chose, or the model never meets
# what it is wrong about
RANDOM_SHARE = 0.1
# known candidates that a light look judges anew, for each that it may propose
RECALLED = 4
# of a round; the rest says whether this subgraph's best is elsewhere
SEED_SHARE = 0.25
ASSUMED_TRACE_S = 6e-3
_NO_LIMIT = 1 << 30


def quiet_logger() -> logging.Logger:
    """The logger given to TVM's tuning contexts, which would print a page a generation."""
    logger = logging.getLogger("familyseer.tvm")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return logger


def new_context(subgraph: Subgraph, target: Any, seed: int, threads: int) -> Any:
    """A tuning context for a subgraph, with the design space for the target."""
    target = roomy(target)
    return ms.TuneContext(
        mod=subgraph.mod,
        target=target,
        space_generator=space_for(target),
        search_strategy=ms.search_strategy.EvolutionarySearch(),
        task_name=subgraph.name,
        # from the subgraph and not from its position: another model's copy searches alike
        rand_state=1 + (int(subgraph.key, 16) + seed) % (2**31 - 2),
        num_threads=threads,
        logger=quiet_logger(),
    )


def space_for(target: Any) -> Any:
    """MetaSchedule's own design space, but for CUDA, where half of it cannot be built or run."""
    if str(target.kind.name) != "cuda":
        return "post-order-apply"
    from ops.cuda_space import design_space

    return design_space(target)


def roomy(target: Any) -> Any:
    """A target that allows a block the shared memory its processor has, not the 48 KiB of old."""
    from familyseer.measure._cuda_limits import architecture

    known = architecture(str(target.attrs.get("arch", "")))
    if str(target.kind.name) != "cuda" or known is None:
        return target
    limit = {"max_shared_memory_per_block": known.block_shared_bytes}
    return type(target)({**target.export(), **limit})


class Look(Enum):
    """How far a search for a round's candidates looks."""

    # at the seeds and at what earlier searches left over
    BACK = "back"
    # around what was measured, under the model's best estimates
    NEAR = "near"
    # under what the model says of all the space and not of the fastest's surroundings
    WIDE = "wide"
    # at places where the fastest is not, each by itself, whatever the model holds of them
    ELSEWHERE = "elsewhere"


class Proposals:
    """Proposes candidates for one subgraph, none twice.

    Parameters
    ----------
    context
        A tuning context of the subgraph with an initialised space generator. Its search strategy
        is used as it is unless it is MetaSchedule's evolutionary search, whose place is taken by
        an evolution over decisions (`_evolution`).
    database, cost_model
        What the search strategy reads.
    max_trials
        Most candidates that will ever be asked for.
    clock
        Tells what a trace costs here.
    cascade
        Whether decisions are sieved before they are applied.

    Attributes
    ----------
    evolving
        Whether decisions are searched here, and not by a strategy of the user's.
    seconds_per_trace
        What applying and ranking one trace has cost lately.
    used_up
        Set when a sample held so few different schedules that the space must be tiny, and all of
        them have been proposed.
    """

    def __init__(
        self,
        context: Any,
        database: Any,
        cost_model: Any,
        max_trials: int | None,
        *,
        clock: Clock | None = None,
        cascade: bool = True,
    ) -> None:
        self.context = context
        self.database = database
        self.cost_model = cost_model
        self.seconds_per_trace = 0.0
        self.used_up = False
        self._clock = clock or Clock()
        self._cascade = cascade
        self._max_trials = max_trials or _NO_LIMIT
        self._seen: set[int] = set()
        self.evolving = isinstance(context.search_strategy, ms.search_strategy.EvolutionarySearch)
        self._spaces: list[Any] | None = None
        self._evolution: Evolution | None = None
        self._read: dict[int, Genes | None] = {}
        self._distances: dict[int, float] = {}
        self._told: list[tuple[float, Any]] = []
        self._started = False
        self._wide = False

    @property
    def spaces(self) -> list[Any]:
        """The design spaces of the subgraph, generated when first asked for."""
        if self._spaces is None:
            self._spaces = list(self.context.generate_design_space())
        return self._spaces

    @property
    def evolution(self) -> Evolution:
        """The search over decisions, made when first asked for."""
        if self._evolution is None:
            self._evolution = Evolution(
                self.context,
                sketches_of(self.spaces),
                self._breeding_scores,
                self._rescore(),
                np.random.default_rng(int(self.context.rand_state) & 0x7FFFFFFF),
                cascade=self._cascade,
            )
        return self._evolution

    def source(self, schedule: Any) -> Source | None:
        """Sketch and decisions of one of this subgraph's schedules, for its siblings to re-fit."""
        genes = self._genes(schedule) if self.evolving else None
        return None if genes is None else (self.evolution.sketches[genes[0]], genes[1])

    def distance(self, other: Proposals) -> float:
        """How unlike another subgraph's loops are; infinite if they cannot be compared."""
        if not (self.evolving and other.evolving):
            return math.inf
        if id(other) not in self._distances:
            mine, theirs = self.evolution.sketches[:1], other.evolution.sketches[:1]
            gaps = (a.distance(b) for a in mine for b in theirs)
            self._distances[id(other)] = min(gaps, default=math.inf)
        return self._distances[id(other)]

    def _genes(self, schedule: Any) -> Genes | None:
        digest = int(structural_hash(schedule.mod))
        if digest not in self._read:
            self._read[digest] = self.evolution.genes_of(schedule)
        return self._read[digest]

    def propose(
        self,
        count: int,
        *,
        elite: list[Any],
        evolve: bool,
        time_for_search_s: float,
        news: Sequence[Genes] = (),
        seeds: Sequence[Genes] = (),
        seeds_first: bool = True,
        look: Look = Look.NEAR,
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
        news
            Decisions, as `Siblings.news` gives them; one is proposed, whatever the cost model holds
            of it.
        seeds
            Decisions of siblings, as `Siblings.seeds` gives them.
        seeds_first
            Whether part of the round is theirs; else they earn their place like any other.
        look
            How far to search, where the cost model is worth evolving under.
        """
        if not self.evolving:
            return self._ask_strategy(count)
        evolution, self._wide = self.evolution, look == Look.WIDE
        began, applied_before = self._clock.now(), evolution.applications
        heard = evolution.rank(evolution.apply(news, again=True)) if news else []
        seeded = evolution.rank(evolution.apply(seeds)) if seeds else []
        population = self._population(time_for_search_s, count, evolve)
        chance = (
            max(1, round(RANDOM_SHARE * count)) if evolve and look != Look.BACK and count > 4 else 0
        )
        few = False
        explored: list[Applied] = []
        if look == Look.BACK:
            found = evolution.recall(RECALLED * count, self._seen)
        elif evolve:
            genes = [g for sch in elite if (g := self._genes(sch)) is not None]
            if look == Look.ELSEWHERE:
                self.recount()
                explored = evolution.explore(genes, count, population)
            found = [] if explored else evolution.evolve(genes, population, self._seen)
        else:
            drawn = evolution.rank(evolution.draw(population))
            few = len(drawn) < population // 4
            found = sorted([*evolution.recall(count, self._seen), *drawn], key=lambda a: -a.score)
        picked = self._unseen(heard, 1)
        picked += self._unseen(seeded, max(1, int(SEED_SHARE * count)) if seeds_first else 0)
        picked += self._unseen(explored, count - len(picked))
        found = sorted([*found, *seeded], key=lambda a: -a.score)
        picked += self._choose(found, count - chance - len(picked))
        if look != Look.BACK:
            picked += self._by_chance(evolution, count - len(picked))
            self.used_up = not picked or few
        self._account(began, evolution.applications - applied_before)
        schedules = [a.schedule for a in picked]
        scores = self.scores(schedules)
        order = np.argsort(-scores, kind="stable")
        return [schedules[int(i)] for i in order], scores[order]

    def _choose(self, found: Sequence[Applied], count: int) -> list[Applied]:
        """The candidates most worth measuring: the model's choice, if it makes one."""
        choose = getattr(self.cost_model, "choose", None)
        fresh = self._unseen(found, len(found))
        if choose is None or count >= len(fresh):
            chosen = fresh[: max(0, count)]
        else:
            candidates = [ms.MeasureCandidate(a.schedule, []) for a in fresh]
            chosen = [fresh[int(i)] for i in choose(self.context, candidates, max(0, count))]
        self._seen -= {a.digest for a in fresh} - {a.digest for a in chosen}
        return chosen

    def _by_chance(self, evolution: Evolution, count: int) -> list[Applied]:
        if count < 1:
            return []
        return self._unseen(evolution.rank(evolution.draw(count)), count)

    def _account(self, began: float, applied: int) -> None:
        self._clock.worked(applied)
        if applied:
            took = (self._clock.now() - began) / applied
            known = self.seconds_per_trace
            self.seconds_per_trace = took if not known else 0.5 * (known + took)

    def scores(self, schedules: list[Any]) -> np.ndarray:
        """Predicted scores of schedules, higher is better."""
        return self._ask(self.cost_model.predict, schedules)

    def _breeding_scores(self, schedules: list[Any]) -> np.ndarray:
        predict = self.cost_model.predict
        return self._ask(
            getattr(self.cost_model, "outlook", predict) if self._wide else predict, schedules
        )

    def _ask(self, predict: Callable[..., Any], schedules: list[Any]) -> np.ndarray:
        if not schedules:
            return np.zeros(0)
        candidates = [ms.MeasureCandidate(sch, []) for sch in schedules]
        return np.asarray(predict(self.context, candidates), dtype=float)

    def _rescore(self) -> Any:
        known = getattr(self.cost_model, "score_known", None)
        if known is None:
            return None
        if not hasattr(self.cost_model, "outlook"):
            return lambda digests: known(self.context, digests)
        return lambda digests: known(self.context, digests, local=not self._wide)

    def remember(self, measured: Sequence[tuple[float, Any]]) -> None:
        """Counts schedules that an earlier run measured as proposed; takes what `tell` takes."""
        self._seen.update(int(structural_hash(sch.mod)) for _, sch in measured)
        self.tell(measured)

    def forget(self, schedules: list[Any]) -> None:
        """Lets schedules that were proposed but never measured be proposed again."""
        for sch in schedules:
            self._seen.discard(int(structural_hash(sch.mod)))

    def tell(self, measured: Iterable[tuple[float, Any]]) -> None:
        """Remembers what measured schedules took, in seconds."""
        if self.evolving:
            self._told += [pair for pair in measured if math.isfinite(pair[0])]

    def recount(self) -> None:
        """Tells the evolution what `tell` was told.

        Not at once: it needs design spaces, which are made when first used.
        """
        for seconds, sch in self._told:
            if (genes := self._genes(sch)) is not None:
                self.evolution.tell(seconds, genes)
        self._told.clear()

    def close(self) -> None:
        """Lets go of the search strategy's state."""
        if self._started:
            self.context.post_tuning()
            self._started = False

    def notify(self, candidates: list[Any], results: list[Any]) -> None:
        """Tells a strategy of the user's own what its candidates gave."""
        if self._started:
            self.context.notify_runner_results(candidates, results)

    def _population(self, seconds: float, count: int, evolve: bool) -> int:
        if not evolve:
            return 4 * count
        fitting = int(seconds / (self.seconds_per_trace or ASSUMED_TRACE_S))
        return max(min(fitting, MOST_APPLIED), LEAST_APPLIED, count + count // 2)

    def _unseen(self, applied: Sequence[Applied], count: int) -> list[Applied]:
        kept: list[Applied] = []
        for one in applied:
            if len(kept) >= count:
                break
            if one.digest not in self._seen:
                self._seen.add(one.digest)
                self._read[one.digest] = one.genes
                kept.append(one)
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
