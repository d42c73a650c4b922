"""Candidates found by evolution over decisions: drawn or bred, sieved, applied, ranked.

Evolution under a learned model is Ansor's and MetaSchedule's (arXiv 2006.06762, section 5; arXiv
2205.13603, section 4). Theirs applies every child's trace before anything judges it; here a small
model sees many times as many children and only the promising ones are applied (`_cascade`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from familyseer.search._apply import apply_jobs
from familyseer.search._cascade import DecisionModel
from familyseer.search._decisions import OPEN, Decisions
from familyseer.search._sketch import Sketch, sketch_of

structural_hash = importlib.import_module("tvm_ffi").structural_hash

Genes = tuple[int, Decisions]

GENERATIONS = 2
# random decisions for each random candidate that is wanted, at most: few can be applied on GPUs
DRAWS = 6
# children that the small model sees for each that is applied
CHILDREN = 12
CROSSED = 0.3
# of the children that are applied, those that the small model did not choose
UNSIEVED = 0.15
PARENTS = 24
# parents of the next generation where the search starts over
FOUNDERS = 8
# of a search, good candidates of earlier ones that there was no room for
RECALLED = 0.1
REMEMBERED = 512


@dataclass
class Applied:
    """A candidate whose trace was applied.

    Attributes
    ----------
    schedule
        Postprocessed, ready to be built.
    genes
        Its sketch and decisions, the open ones as they were sampled.
    digest
        Structural hash of its TIR.
    score
        What the full model said of it.
    """

    schedule: Any
    genes: Genes
    digest: int
    score: float = 0.0


@dataclass
class _Known:
    genes: Genes
    digest: int
    score: float


class Evolution:
    """Searches one subgraph's decisions under a cost model.

    Parameters
    ----------
    context
        Its tuning context.
    sketches
        Its design space.
    scores
        The full model: predicted scores of schedules.
    rescore
        The full model's present scores of candidates it has seen, by digest; NaN where it has
        forgotten one. None if the model cannot tell.
    rng
        What all chances come from.
    cascade
        Whether the small model sieves.
    """

    def __init__(
        self,
        context: Any,
        sketches: Sequence[Sketch],
        scores: Callable[[list[Any]], npt.NDArray[np.float64]],
        rescore: Callable[[list[int]], npt.NDArray[np.float64]] | None,
        rng: np.random.Generator,
        *,
        cascade: bool = True,
    ) -> None:
        self.context = context
        self.sketches = list(sketches)
        self.cascade = cascade
        self.applications = 0
        self._scores = scores
        self._rescore = rescore
        self._rng = rng
        self._seed = int(rng.integers(1 << 30))
        self._tried: set[tuple[int, bytes]] = set()
        self._known: list[_Known] = []
        self._refused: list[Genes] = []

    def genes_of(self, schedule: Any) -> Genes | None:
        """Sketch and decisions of a schedule of this subgraph; None if it is of no sketch."""
        index = sketch_of(schedule.trace, self.sketches)
        return None if index is None else (index, self.sketches[index].read(schedule.trace))

    def draw(self, count: int) -> list[Applied]:
        """At most `count` random candidates, no decisions tried twice."""
        drawn: list[Applied] = []
        left = DRAWS * count
        while left > 0 and len(drawn) < count:
            batch = min(left, count - len(drawn))
            left -= batch
            which = [int(i) for i in self._rng.integers(len(self.sketches), size=batch)]
            drawn += self.apply([(i, self.sketches[i].sample(self._rng)) for i in which])
        return drawn

    def apply(self, genes: Sequence[Genes]) -> list[Applied]:
        """Applies decisions that were not tried before; those that fail are remembered."""
        fresh: list[Genes] = []
        for index, vector in genes:
            mark = (index, vector.tobytes())
            if mark not in self._tried:
                self._tried.add(mark)
                fresh.append((index, vector))
        self.applications += len(fresh)
        seeds = [int(self._rng.integers(1, 2**31 - 1)) for _ in fresh]
        jobs = [(self.sketches[i], v, seed) for (i, v), seed in zip(fresh, seeds, strict=True)]
        applied = []
        for (index, vector), schedule in zip(fresh, apply_jobs(self.context, jobs), strict=True):
            if schedule is None:
                self._refused.append((index, vector))
                continue
            sketch = self.sketches[index]
            found = sketch.read(schedule.trace) if OPEN in vector else vector
            sketch.meet(found)
            self._tried.add((index, found.tobytes()))
            digest = int(structural_hash(schedule.mod))
            applied.append(Applied(schedule, (index, found), digest))
        return applied

    def rank(self, applied: list[Applied]) -> list[Applied]:
        """The same, scored by the full model, best first."""
        if not applied:
            return []
        scores = self._scores([a.schedule for a in applied])
        for one, score in zip(applied, scores, strict=True):
            one.score = float(score)
            self._known.append(_Known(one.genes, one.digest, one.score))
        del self._known[: max(0, len(self._known) - REMEMBERED)]
        del self._refused[: max(0, len(self._refused) - REMEMBERED // 4)]
        return _best(applied)

    def evolve(self, elite: Sequence[Genes], count: int, taken: Container[int]) -> list[Applied]:
        """About `count` applied candidates, best predicted first.

        Parameters
        ----------
        elite
            Measured candidates, fastest first, to breed from.
        taken
            Digests of what has been proposed already.
        """
        found = self.recall(max(1, int(RECALLED * count)), taken)
        share = max(1, count // (GENERATIONS + 1))
        # new blood: without it the population is soon all cousins
        found += self.rank(self.draw(share if not self._known else max(1, share // 2)))
        return self._breed(found, share, lambda _: self._parents(elite))

    def start_over(self, count: int) -> list[Applied]:
        """About `count` applied candidates bred from new draws alone, best predicted first.

        What was measured has no part in it: its like would soon be all of the population, and a
        better place that looks worse at first is never climbed to.
        """
        self._judge_anew()
        share = max(1, count // (GENERATIONS + 1))
        found = self.rank(self.draw(share))
        return self._breed(found, share, lambda bred: [a.genes for a in _best(bred)[:FOUNDERS]])

    def _breed(
        self, found: list[Applied], share: int, parents: Callable[[list[Applied]], list[Genes]]
    ) -> list[Applied]:
        """What was found and `share` children a generation, best predicted first."""
        model = self._taught() if self.cascade else None
        for _ in range(GENERATIONS):
            children = self._children(parents(found), share if model is None else CHILDREN * share)
            found = found + self.rank(self.apply(self._sieve(model, children, share)))
        return _best(found)

    def recall(self, count: int, taken: Container[int]) -> list[Applied]:
        """The best known candidates that were never proposed, applied once more.

        Schedules are too large to be kept; their decisions are not.
        """
        self._judge_anew()
        waiting = {k.digest: k for k in self._known if k.digest not in taken}
        best = sorted(waiting.values(), key=lambda k: -k.score)[:count]
        self.applications += len(best)
        jobs = [(self.sketches[k.genes[0]], k.genes[1], 1) for k in best]
        return [
            Applied(schedule, known.genes, int(structural_hash(schedule.mod)), known.score)
            for known, schedule in zip(best, apply_jobs(self.context, jobs), strict=True)
            if schedule is not None
        ]

    def _judge_anew(self) -> None:
        """Scores of earlier calls are those of an older model: ask the present one."""
        if self._rescore is None or not self._known:
            return
        scores = self._rescore([k.digest for k in self._known])
        for known, score in zip(self._known, scores, strict=True):
            if np.isfinite(score):
                known.score = float(score)

    def _parents(self, elite: Sequence[Genes]) -> list[Genes]:
        promising = sorted(self._known, key=lambda k: -k.score)[:PARENTS]
        return [*elite[:PARENTS], *(k.genes for k in promising)]

    def _children(self, parents: list[Genes], count: int) -> list[Genes]:
        if not parents:
            return []
        rng = self._rng
        children: list[Genes] = []
        fresh: set[tuple[int, bytes]] = set()
        by_sketch: dict[int, list[Decisions]] = {}
        for index, vector in parents:
            by_sketch.setdefault(index, []).append(vector)
        for _ in range(count):
            index, vector = parents[int(rng.integers(len(parents)))]
            sketch, mates = self.sketches[index], by_sketch[index]
            if len(mates) > 1 and rng.random() < CROSSED:
                vector = sketch.cross(vector, mates[int(rng.integers(len(mates)))], rng)
            for _ in range(1 + int(rng.random() < 0.5)):
                vector = sketch.mutate(vector, rng)
            mark = (index, vector.tobytes())
            if mark not in self._tried and mark not in fresh and sketch.allows(vector):
                fresh.add(mark)
                children.append((index, vector))
        return children

    def _taught(self) -> DecisionModel | None:
        """The small model, taught what the full one has said; None while that is too little."""
        model = DecisionModel(self.sketches, self._seed)
        taught = [k.genes for k in self._known] + self._refused
        scores = [k.score for k in self._known] + [0.0] * len(self._refused)
        model.fit([g[0] for g in taught], [g[1] for g in taught], np.asarray(scores))
        return model if model.ready else None

    def _sieve(self, model: DecisionModel | None, children: list[Genes], count: int) -> list[Genes]:
        if model is None or len(children) <= count:
            return children[:count]
        ranks = model.rank([g[0] for g in children], [g[1] for g in children])
        order = [int(i) for i in np.argsort(-ranks, kind="stable")]
        by_chance = int(UNSIEVED * count)
        chosen, rest = order[: count - by_chance], order[count - by_chance :]
        chosen += [rest[int(i)] for i in self._rng.choice(len(rest), by_chance, replace=False)]
        return [children[i] for i in chosen]


def _best(applied: list[Applied]) -> list[Applied]:
    return sorted(applied, key=lambda a: -a.score)
