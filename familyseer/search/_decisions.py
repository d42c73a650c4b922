"""Decisions of a sketch as vectors: sampled, mutated, crossed, re-fitted, without applying them.

A vector costs microseconds where applying a trace costs milliseconds, so a search over vectors can
look at many more candidates than it applies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Decisions = npt.NDArray[np.int32]

# left to TVM: the instruction samples what is possible where it stands
OPEN = -(1 << 20)
# a sketch for GPUs allows a few per cent of random decisions
_REDRAWS = 200
TILE, CHOICE, OTHER = "tile", "choice", "other"


@dataclass(frozen=True)
class Slot:
    """One sampling instruction.

    Attributes
    ----------
    kind
        ``tile`` for a perfect tiling, ``choice`` for a categorical one, ``other`` for what depends
        on the schedule so far (compute locations) and is carried over or left open.
    instruction
        TVM's name of the instruction.
    start, width
        Where its numbers are in a vector of decisions.
    extent
        Product of a tiling's factors; the number of values of a choice; else 0.
    limit
        Largest innermost factor of a tiling.
    values
        What a choice chooses from, as numbers (0 for what is not a number).
    """

    kind: str
    instruction: str
    start: int
    width: int
    extent: int
    limit: int = 0
    values: tuple[float, ...] = ()

    @property
    def stop(self) -> int:
        """End of its numbers in a vector of decisions."""
        return self.start + self.width

    @property
    def shape(self) -> tuple[str, int]:
        """What two slots must share for one's decision to mean something in the other."""
        return self.instruction, self.width


class DecisionSpace:
    """The slots of one sketch.

    Parameters
    ----------
    slots
        In the order of their instructions.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        self.length = self.slots[-1].stop if self.slots else 0
        self._met: dict[int, list[tuple[int, ...]]] = {
            s.start: [] for s in slots if s.kind == OTHER
        }

    @cached_property
    def free(self) -> list[Slot]:
        """Slots that hold more than one possibility, or of which nobody can tell beforehand."""
        return [
            s
            for s in self.slots
            if s.kind == OTHER or (s.extent > 1 and (s.kind != TILE or s.width > 1))
        ]

    def meet(self, vector: Decisions) -> None:
        """Notes what a candidate shows to be possible where only a schedule can tell."""
        for slot in self.slots:
            if slot.kind == OTHER:
                numbers = tuple(int(n) for n in vector[slot.start : slot.stop])
                if OPEN not in numbers and numbers not in self._met[slot.start]:
                    self._met[slot.start].append(numbers)

    def allows(self, vector: Decisions) -> bool:
        """Whether decisions are worth applying, as far as they alone can tell."""
        return True

    def sample(self, rng: np.random.Generator) -> Decisions:
        """Random decisions: of all tilings of an extent each is as likely, as in MetaSchedule.

        Were each prime factor to go to any part by itself, the parts would nearly always be alike,
        and a tile of 256 beside parts of 1 would be drawn once in thousands of times.
        """
        vector = self._draw(rng)
        for _ in range(_REDRAWS):
            if self.allows(vector):
                break
            vector = self._draw(rng)
        return vector

    def _draw(self, rng: np.random.Generator) -> Decisions:
        vector = np.full(self.length, OPEN, dtype=np.int32)
        for slot in self.slots:
            if slot.kind != OTHER:
                vector[slot.start : slot.stop] = _sample_slot(slot, rng)
        return vector

    def mutate(self, vector: Decisions, rng: np.random.Generator) -> Decisions:
        """One slot decided anew, or a factor of one tiling moved to another of its parts.

        What depends on the schedule so far becomes what it was in another candidate (`meet`), or
        is left open.
        """
        child = vector.copy()
        free = self.free
        if not free:
            return child
        slot = free[int(rng.integers(len(free)))]
        if slot.kind == OTHER:
            child[slot.start : slot.stop] = self._elsewhere(slot, child, rng)
        elif slot.kind == TILE and rng.random() < _MOVE:
            child[slot.start : slot.stop] = _move_factor(slot, child[slot.start : slot.stop], rng)
        else:
            child[slot.start : slot.stop] = _sample_slot(slot, rng)
        return child

    def _elsewhere(
        self, slot: Slot, vector: Decisions, rng: np.random.Generator
    ) -> tuple[int, ...]:
        now = tuple(int(n) for n in vector[slot.start : slot.stop])
        others = [numbers for numbers in self._met[slot.start] if numbers != now]
        at = int(rng.integers(len(others) + 1))
        return others[at] if at < len(others) else (OPEN,) * slot.width

    def cross(self, one: Decisions, other: Decisions, rng: np.random.Generator) -> Decisions:
        """Each slot from either parent."""
        child = one.copy()
        for slot in self.slots:
            if rng.random() < 0.5:
                child[slot.start : slot.stop] = other[slot.start : slot.stop]
        return child

    def refit(self, source: DecisionSpace, vector: Decisions) -> Decisions | None:
        """Another subgraph's decisions in this sketch: nearest factors, choices carried over.

        Slots are matched in order by instruction and width; a slot without a counterpart is left
        open, since a subgraph with one more operation has one more place to decide.

        Returns
        -------
        Decisions or None
            None if a tiling of either has no counterpart, for then the loops are others.
        """
        pairs = self._matched(source)
        if pairs is None:
            return None
        fitted = np.full(self.length, OPEN, dtype=np.int32)
        for slot, other in pairs:
            numbers = vector[other.start : other.stop]
            if OPEN in numbers:
                continue
            if slot.kind == TILE:
                fitted[slot.start : slot.stop] = nearest_tiling(slot, numbers)
            elif slot.kind == CHOICE:
                fitted[slot.start] = _nearest_choice(slot, other, int(numbers[0]))
            else:
                fitted[slot.start : slot.stop] = numbers
        return fitted

    def distance(self, source: DecisionSpace) -> float:
        """Sum of the differences of extents in the logarithm; infinite if none can be re-fitted."""
        pairs = self._matched(source)
        if pairs is None:
            return math.inf
        tiled = [(a.extent, b.extent) for a, b in pairs if a.kind == TILE]
        return sum(abs(math.log2(max(a, 1) / max(b, 1))) for a, b in tiled)

    def _matched(self, source: DecisionSpace) -> list[tuple[Slot, Slot]] | None:
        mine, theirs = [s.shape for s in self.slots], [s.shape for s in source.slots]
        blocks = SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
        pairs = [
            (self.slots[b.a + i], source.slots[b.b + i]) for b in blocks for i in range(b.size)
        ]
        matched = sum(one.kind == TILE for one, _ in pairs)
        if any(sum(s.kind == TILE for s in k.slots) != matched for k in (self, source)):
            return None
        return pairs

    def encode(self, vectors: Sequence[Decisions]) -> npt.NDArray[np.float32]:
        """Numbers for a model that ranks decisions: shape (n, `length`), logarithms of factors."""
        if len(vectors) == 0:
            return np.zeros((0, self.length), dtype=np.float32)
        rows = np.stack(vectors).astype(np.float32)
        for slot in self.slots:
            columns = rows[:, slot.start : slot.stop]
            if slot.kind == TILE:
                rows[:, slot.start : slot.stop] = np.log2(np.maximum(columns, 1.0))
            else:
                rows[:, slot.start : slot.stop] = np.where(columns == OPEN, np.nan, columns)
        return rows


def far_from(space: DecisionSpace, vector: Decisions, others: Sequence[Decisions]) -> bool:
    """Whether decisions differ from each of some others of the sketch in more than one slot."""
    if not others:
        return True
    starts = [slot.start for slot in space.slots]
    unlike = np.logical_or.reduceat(np.stack(others) != vector, starts, axis=1)
    return bool((np.count_nonzero(unlike, axis=1) > 1).all())


# of mutations of a tiling, those that move one factor
_MOVE = 0.6


def nearest_tiling(slot: Slot, factors: Sequence[int] | Decisions) -> Decisions:
    """The tiling of a slot's extent whose factors are nearest in the logarithm.

    Parameters
    ----------
    factors
        As many as the slot is wide, of another extent.
    """
    wanted = np.log2(np.maximum(np.asarray(factors, dtype=float), 1.0))
    # the outermost factor takes the difference in size: inner tiles are made for the machine
    wanted[0] += math.log2(max(slot.extent, 1)) - wanted.sum()
    tilings, logarithms = _tilings(slot.extent, slot.width, slot.limit)
    if not len(tilings):  # too many to look at: the largest primes go where most is missing
        return np.asarray(_greedy_tiling(slot, wanted), dtype=np.int32)
    gaps = np.square(logarithms - wanted).sum(axis=1)
    return np.asarray(tilings[int(np.argmin(gaps))], dtype=np.int32)


_MOST_TILINGS = 4096


@lru_cache(maxsize=512)
def _tilings(
    extent: int, parts: int, limit: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """All tilings of an extent whose innermost factor keeps the limit, and their logarithms.

    None if there are very many.
    """
    count = 1
    primes = _primes(extent)
    for prime in set(primes):
        count *= math.comb(primes.count(prime) + parts - 1, parts - 1)
    if count > _MOST_TILINGS:
        return np.zeros((0, parts), dtype=np.int32), np.zeros((0, parts))
    found: list[tuple[int, ...]] = [()]
    rest = [extent]
    for _ in range(parts - 1):
        longer, left = [], []
        for head, remaining in zip(found, rest, strict=True):
            for factor in _divisors(remaining):
                longer.append((*head, factor))
                left.append(remaining // factor)
        found, rest = longer, left
    whole = np.asarray([(*h, r) for h, r in zip(found, rest, strict=True)], dtype=np.int32)
    # a part alone has no other to give a factor to
    kept = whole if limit <= 0 or parts < 2 else whole[whole[:, -1] <= limit]
    return kept, np.log2(kept)


def _greedy_tiling(slot: Slot, wanted: npt.NDArray[np.float64]) -> list[int]:
    tiling = [1] * slot.width
    for prime in sorted(_primes(slot.extent), reverse=True):
        missing = wanted - np.log2(tiling)
        order = [int(i) for i in np.argsort(-missing, kind="stable")]
        part = next(i for i in [*order, 0] if _fits(slot, tiling, i, prime))
        tiling[part] *= prime
    return tiling


def _fits(slot: Slot, tiling: Sequence[int] | Decisions, part: int, prime: int) -> bool:
    innermost = part == slot.width - 1 and slot.width > 1
    return not innermost or slot.limit <= 0 or int(tiling[part]) * prime <= slot.limit


@lru_cache(maxsize=4096)
def _primes(number: int) -> tuple[int, ...]:
    found, rest, prime = [], number, 2
    while prime * prime <= rest:
        while rest % prime == 0:
            found.append(prime)
            rest //= prime
        prime += 1
    if rest > 1:
        found.append(rest)
    return tuple(found)


@lru_cache(maxsize=4096)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, number + 1) if number % d == 0)


def _sample_slot(slot: Slot, rng: np.random.Generator) -> Sequence[int] | Decisions:
    if slot.kind == CHOICE:
        return [int(rng.integers(slot.extent))]
    tilings, _ = _tilings(slot.extent, slot.width, slot.limit)
    if len(tilings):
        return np.asarray(tilings[int(rng.integers(len(tilings)))], dtype=np.int32)
    return _scatter(slot, rng)


def _scatter(slot: Slot, rng: np.random.Generator) -> list[int]:
    """A tiling of an extent that has too many to list: any prime factor goes to any part."""
    tiling = [1] * slot.width
    primes = np.asarray(_primes(slot.extent), dtype=np.int64)
    for prime in rng.permutation(primes):
        part = int(rng.integers(slot.width))
        if not _fits(slot, tiling, part, int(prime)):
            part = int(rng.integers(max(1, slot.width - 1)))
        tiling[part] *= int(prime)
    return tiling


def _move_factor(slot: Slot, factors: Decisions, rng: np.random.Generator) -> Decisions:
    moved = factors.copy()
    full = [i for i in range(slot.width) if moved[i] > 1]
    if not full or slot.width < 2:
        return moved
    origin = full[int(rng.integers(len(full)))]
    primes = _primes(int(moved[origin]))
    prime = primes[int(rng.integers(len(primes)))]
    others = [i for i in range(slot.width) if i != origin and _fits(slot, moved, i, prime)]
    if others:
        moved[origin] //= prime
        moved[others[int(rng.integers(len(others)))]] *= prime
    return moved


def _nearest_choice(mine: Slot, theirs: Slot, index: int) -> int:
    if mine.values == theirs.values or not 0 <= index < len(theirs.values):
        return min(max(index, 0), mine.extent - 1)
    wanted = theirs.values[index]
    return min(range(mine.extent), key=lambda i: abs(mine.values[i] - wanted))
