"""Candidates found by evolution over decisions: drawn or bred, sieved, applied, ranked.

Evolution under a learned model is Ansor's and MetaSchedule's (arXiv 2006.06762, section 5; arXiv
2205.13603, section 4). Theirs applies every child's trace before anything judges it; here a small
model sees many times as many children and only the promising ones are applied (`_cascade`).
"""

from __future__ import annotations

import importlib
from bisect import insort
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from familyseer.search._apply import Applier
from familyseer.search._cascade import DecisionModel
from familyseer.search._decisions import OPEN, Decisions, Slot, far_from
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
# candidates applied of a place that is explored, at least
LEAST_OF_A_PLACE = 6
# the fastest measured there, to breed from
FASTEST_OF_A_PLACE = 4
# of children there, those drawn anew but for what makes the place
DRAWN_THERE = 0.1
# of a search, good candidates of earlier ones that there was no room for
RECALLED = 0.1
REMEMBERED = 512
_PLACES_TRIED = 8


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
        self.sketches = list(sketches)
        self.cascade = cascade
        self.applications = 0
        self._apply = Applier(context).apply
        self._scores = scores
        self._rescore = rescore
        self._rng = rng
        self._seed = int(rng.integers(1 << 30))
        self._tried: set[tuple[int, bytes]] = set()
        self._known: list[_Known] = []
        self._measured: list[tuple[float, Genes]] = []
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

    def apply(self, genes: Sequence[Genes], *, again: bool = False) -> list[Applied]:
        """Applies decisions that were not tried before; those that fail are remembered.

        Parameters
        ----------
        again
            Also those that were tried.
        """
        fresh: list[Genes] = []
        for index, vector in genes:
            mark = (index, vector.tobytes())
            if again or mark not in self._tried:
                self._tried.add(mark)
                fresh.append((index, vector))
        self.applications += len(fresh)
        seeds = [int(self._rng.integers(1, 2**31 - 1)) for _ in fresh]
        jobs = [(self.sketches[i], v, seed) for (i, v), seed in zip(fresh, seeds, strict=True)]
        applied = []
        for (index, vector), schedule in zip(fresh, self._apply(jobs), strict=True):
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
        model = self._taught() if self.cascade else None
        for _ in range(GENERATIONS):
            found += self._bred(model, share, lambda n: self._children(self._parents(elite), n))
        return _best(found)

    def tell(self, seconds: float, genes: Genes) -> None:
        """Remembers what a measured candidate took."""
        insort(self._measured, (seconds, genes), key=lambda pair: pair[0])

    def is_far(self, genes: Genes) -> bool:
        """Whether nothing that was measured is a step away: the same but for one decision."""
        index, vector = genes
        measured = [other for _, (i, other) in self._measured if i == index]
        return far_from(self.sketches[index], vector, measured)

    def explore(self, elite: Sequence[Genes], places: int, count: int) -> list[Applied]:
        """The best of each of some places where the fastest is not, best predicted first.

        A model that has seen little of a place, and that not its best, holds all of it to be slow,
        and a search that follows the model never learns better. Here places do not compete: all
        that one has is some decisions in common, the others are bred under the model, and the best
        that it finds there is given, for its order within a place is right more often than its
        comparison of places. Keeping the best of each cell of a space and breeding from those is
        MAP-Elites' idea (Mouret and Clune, arXiv 1504.04909).

        Parameters
        ----------
        elite
            Measured candidates, fastest first, from which the other decisions may come.
        places
            At most so many candidates are given.
        count
            About so many are applied in all.
        """
        self._judge_anew()
        model = self._taught() if self.cascade else None
        share = max(LEAST_OF_A_PLACE, count // max(1, places))
        found: list[Applied] = []
        for _ in range(places):
            found += self._bred(model, share, lambda n: self._within(elite, n))[:1]
        return _best(found)

    def _bred(
        self, model: DecisionModel | None, count: int, breed: Callable[[int], list[Genes]]
    ) -> list[Applied]:
        """At most `count` of the children that are bred, sieved and applied, best first."""
        children = breed(count if model is None else CHILDREN * count)
        return self.rank(self.apply(self._sieve(model, children, count)))

    def _within(self, elite: Sequence[Genes], count: int) -> list[Genes]:
        """Children of one place, of the fastest measured there and of the elite moved there."""
        rng = self._rng
        (index, anchor), fixed = self._place(elite[0] if elite else None)
        sketch = self.sketches[index]

        def moved(vector: Decisions) -> Decisions:
            vector = vector.copy()
            for slot in fixed:
                vector[slot.start : slot.stop] = anchor[slot.start : slot.stop]
            return vector

        measured = (vector for _, (i, vector) in self._measured if i == index)
        inside = (vector for vector in measured if _alike(vector, anchor, fixed))
        there = list(islice(inside, FASTEST_OF_A_PLACE))
        best = [moved(vector) for i, vector in elite[:PARENTS] if i == index]
        parents = [some for some in (there, best) if some]

        def bred() -> Iterator[Genes]:
            for _ in range(count):
                if not parents or rng.random() < DRAWN_THERE:
                    child = sketch.sample(rng)
                else:
                    some = parents[int(rng.integers(len(parents)))]
                    child = self._mutated(sketch, some[int(rng.integers(len(some)))])
                yield index, moved(child)

        return self._new(bred())

    def _place(self, fastest: Genes | None) -> tuple[Genes, list[Slot]]:
        """A candidate, measured or drawn, and the slots where all of a place decide as it does.

        Those are one or a few, and not only such as the fastest decides alike.
        """
        rng = self._rng
        for _ in range(_PLACES_TRIED):
            if self._measured and rng.random() < 0.5:
                index, anchor = self._measured[int(rng.integers(len(self._measured)))][1]
            else:
                index = int(rng.integers(len(self.sketches)))
                anchor = self.sketches[index].sample(rng)
            decided = [s for s in self.sketches[index].free if OPEN not in anchor[s.start : s.stop]]
            order = rng.permutation(len(decided))[: int(rng.geometric(0.5))]
            fixed = [decided[int(i)] for i in order]
            if fastest is None or index != fastest[0] or not _alike(anchor, fastest[1], fixed):
                break
        return (index, anchor), fixed

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
            for known, schedule in zip(best, self._apply(jobs), strict=True)
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
        by_sketch: dict[int, list[Decisions]] = {}
        for index, vector in parents:
            by_sketch.setdefault(index, []).append(vector)

        def bred() -> Iterator[Genes]:
            for _ in range(count):
                index, vector = parents[int(rng.integers(len(parents)))]
                sketch, mates = self.sketches[index], by_sketch[index]
                if len(mates) > 1 and rng.random() < CROSSED:
                    vector = sketch.cross(vector, mates[int(rng.integers(len(mates)))], rng)
                yield index, self._mutated(sketch, vector)

        return self._new(bred())

    def _mutated(self, sketch: Sketch, vector: Decisions) -> Decisions:
        """A candidate's decisions, one or two steps away."""
        for _ in range(1 + int(self._rng.random() < 0.5)):
            vector = sketch.mutate(vector, self._rng)
        return vector

    def _new(self, children: Iterable[Genes]) -> list[Genes]:
        """Those that were not tried and that their sketch allows, each once."""
        found: list[Genes] = []
        marks: set[tuple[int, bytes]] = set()
        for index, vector in children:
            mark = (index, vector.tobytes())
            seen = mark in self._tried or mark in marks
            if not seen and self.sketches[index].allows(vector):
                marks.add(mark)
                found.append((index, vector))
        return found

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


def _alike(one: Decisions, other: Decisions, slots: Iterable[Slot]) -> bool:
    """Whether two of a sketch decide the same in some slots."""
    return all(np.array_equal(one[s.start : s.stop], other[s.start : s.stop]) for s in slots)


def _best(applied: list[Applied]) -> list[Applied]:
    return sorted(applied, key=lambda a: -a.score)
