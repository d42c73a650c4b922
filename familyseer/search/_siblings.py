"""What tuned siblings lend a subgraph: their fastest candidates, re-fitted to its loops.

*Seeds* compete with what the subgraph's own search comes upon, except in its first round. *News* do
not: what the models hold to be slow stays unmeasured in every member of a family, until one of them
comes upon it and finds it fast. Then the others measure it, whatever the models say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from familyseer.search._evolution import Evolution, Genes
from familyseer.search._proposals import Proposals, Source
from familyseer.search._starters import Start
from familyseer.search._task import TaskState

# siblings whose fastest candidates are re-fitted, and how many of each
NEAREST_SIBLINGS, SEEDS_OF_EACH = 6, 3

Mark = tuple[int, bytes]


class Refits:
    """Decisions of other subgraphs re-fitted to one, none twice.

    Parameters
    ----------
    evolution
        The subgraph's.
    """

    def __init__(self, evolution: Evolution) -> None:
        self._evolution = evolution
        self._offered: set[Mark] = set()
        self._heard: set[Mark] = set()
        self._seeded: set[Mark] = set()

    def seeds(self, sources: Sequence[Source], count: int) -> list[Genes]:
        """At most `count` new ones.

        Parameters
        ----------
        sources
            Sketches and decisions of the siblings' candidates, best first.
        """
        seeds: list[Genes] = []
        for source in sources:
            if len(seeds) >= count:
                break
            if not _is_new(source, self._offered):
                continue
            for index, decisions in self._of(source):
                mark = (index, decisions.tobytes())
                if mark not in self._seeded:
                    self._seeded.add(mark)
                    seeds.append((index, decisions))
        return seeds

    def news(self, sources: Sequence[Source]) -> list[Genes]:
        """Those of the first new source that makes decisions far from all measured ones."""
        for source in sources:
            if _is_new(source, self._heard):
                far = [genes for genes in self._of(source) if self._evolution.is_far(genes)]
                if far:
                    return far
        return []

    def _of(self, source: Source) -> list[Genes]:
        sketches = self._evolution.sketches
        # where sketches differ in more than decisions, only the like one means the same
        alike = [s.structure == source[0].structure for s in sketches]
        return [
            (index, decisions)
            for index, sketch in enumerate(sketches)
            if (alike[index] or not any(alike)) and (decisions := sketch.refit(*source)) is not None
        ]


class Siblings:
    """Knows which subgraphs may lend to which.

    Parameters
    ----------
    states
        All subgraphs'.
    proposals, starts
        By `id` of the state.
    """

    def __init__(
        self,
        states: Sequence[TaskState],
        proposals: Mapping[int, Proposals],
        starts: Mapping[int, Start],
    ) -> None:
        self._states = states
        self._proposals = proposals
        self._starts = starts
        self._refits: dict[int, Refits] = {}

    def seeds(self, state: TaskState, count: int) -> list[Genes]:
        """Decisions of tuned siblings, the most alike siblings' first, then of earlier runs'."""
        proposals = self._proposals[id(state)]
        if not proposals.evolving:
            return []
        refits = self._refits_of(state)
        seeds = refits.seeds(self._fastest(state, range(SEEDS_OF_EACH)), count)
        earlier = self._starts[id(state)].sources(
            lambda: proposals.evolution.sketches, NEAREST_SIBLINGS, SEEDS_OF_EACH
        )
        # each once: re-fitting costs more than remembering that it was done
        while earlier and len(seeds) < count:
            seeds += refits.seeds([earlier.popleft()], count - len(seeds))
        return seeds

    def news(self, state: TaskState) -> list[Genes]:
        """What has become a sibling's fastest and is unlike all that was measured of this one."""
        proposals = self._proposals[id(state)]
        if not proposals.evolving:
            return []
        proposals.recount()
        return self._refits_of(state).news(self._fastest(state, range(1)))

    def _refits_of(self, state: TaskState) -> Refits:
        if id(state) not in self._refits:
            self._refits[id(state)] = Refits(self._proposals[id(state)].evolution)
        return self._refits[id(state)]

    def _fastest(self, state: TaskState, places: Iterable[int]) -> list[Source]:
        """Siblings' candidates at some places among their fastest, the nearest siblings' first."""
        mine = self._proposals[id(state)]
        siblings = [
            (self._proposals[id(s)], s)
            for s in self._states
            if s.family == state.family and s is not state and s.elite
        ]
        near = sorted(siblings, key=lambda pair: mine.distance(pair[0]))[:NEAREST_SIBLINGS]
        return [
            source
            for place in places
            for other, sibling in near
            if place < len(sibling.elite)
            and (source := other.source(sibling.elite[place][1])) is not None
        ]


def _is_new(source: Source, known: set[Mark]) -> bool:
    """Whether a source is not among those known; it is from now on."""
    mark = (id(source[0]), source[1].tobytes())
    if mark in known:
        return False
    known.add(mark)
    return True
