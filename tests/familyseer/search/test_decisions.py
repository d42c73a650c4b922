"""Decisions as vectors: what is drawn, bred or re-fitted is always a possible schedule."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from familyseer.search._decisions import (
    CHOICE,
    OPEN,
    OTHER,
    TILE,
    DecisionSpace,
    Slot,
    nearest_tiling,
)


def space_of(*parts: tuple[str, int, int]) -> DecisionSpace:
    """A space of ``(kind, extent, width)``, every tiling with at most 16 innermost."""
    names = {TILE: "SamplePerfectTile", CHOICE: "SampleCategorical", OTHER: "SampleComputeLocation"}
    slots, start = [], 0
    for kind, extent, width in parts:
        values = tuple(16.0 * i for i in range(extent)) if kind == CHOICE else ()
        limit = 16 if kind == TILE else 0
        slots.append(Slot(kind, names[kind], start, width, extent, limit, values))
        start += width
    return DecisionSpace(slots)


PRODUCT = ((TILE, 96, 4), (TILE, 49, 4), (TILE, 128, 2), (CHOICE, 4, 1), (OTHER, 0, 1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def check(space: DecisionSpace, vector: np.ndarray) -> None:
    """Every tiling multiplies to its extent within its limit, every choice is one of its own."""
    for slot in space.slots:
        numbers = vector[slot.start : slot.stop]
        if slot.kind == TILE:
            assert math.prod(int(n) for n in numbers) == slot.extent
            assert numbers[-1] <= slot.limit
        elif slot.kind == CHOICE:
            assert 0 <= numbers[0] < slot.extent


def test_samples_are_possible_and_various(rng: np.random.Generator) -> None:
    space = space_of(*PRODUCT)
    sampled = [space.sample(rng) for _ in range(300)]
    for vector in sampled:
        check(space, vector)
    assert len({v.tobytes() for v in sampled}) > 250
    # every part of a tiling gets something now and then
    assert (np.stack(sampled)[:, :4].max(axis=0) > 1).all()
    assert {int(v[10]) for v in sampled} == {0, 1, 2, 3}


def test_lopsided_tilings_are_drawn_as_often_as_balanced_ones(rng: np.random.Generator) -> None:
    space = space_of((TILE, 512, 4))
    drawn = Counter(tuple(space.sample(rng)) for _ in range(18_500))
    # 220 tilings, but for those with more than 16 innermost
    assert len(drawn) == 185
    assert min(drawn.values()) > 50
    assert max(drawn.values()) < 150


def test_an_extent_with_too_many_tilings_to_list_is_drawn_too(rng: np.random.Generator) -> None:
    space = space_of((TILE, 2**8 * 3**4 * 5**2 * 7, 4))
    sampled = [space.sample(rng) for _ in range(50)]
    for vector in sampled:
        check(space, vector)
    assert len({v.tobytes() for v in sampled}) > 45


def test_what_depends_on_the_schedule_is_left_open(rng: np.random.Generator) -> None:
    assert space_of(*PRODUCT).sample(rng)[-1] == OPEN


def test_a_prime_above_the_limit_never_goes_innermost(rng: np.random.Generator) -> None:
    space = space_of((TILE, 2 * 67, 3))
    assert all(space.sample(rng)[-1] <= 2 for _ in range(50))


def test_a_mutation_changes_one_slot_and_keeps_every_product(rng: np.random.Generator) -> None:
    space = space_of(*PRODUCT)
    vector = space.sample(rng)
    changed = 0
    for _ in range(300):
        child = space.mutate(vector, rng)
        check(space, child)
        touched = [
            s for s in space.slots if (child[s.start : s.stop] != vector[s.start : s.stop]).any()
        ]
        assert len(touched) <= 1
        changed += bool(touched)
        vector = child
    assert changed > 150


def test_a_mutation_leaves_its_parent_alone(rng: np.random.Generator) -> None:
    space = space_of(*PRODUCT)
    vector = space.sample(rng)
    before = vector.copy()
    for _ in range(20):
        space.mutate(vector, rng)
    np.testing.assert_array_equal(vector, before)


def test_a_space_without_possibilities_mutates_into_itself(rng: np.random.Generator) -> None:
    space = space_of((TILE, 12, 1), (TILE, 1, 4))
    vector = space.sample(rng)
    assert space.free == []
    np.testing.assert_array_equal(space.mutate(vector, rng), vector)


def test_what_depends_on_the_schedule_is_decided_as_in_other_candidates_or_left_open(
    rng: np.random.Generator,
) -> None:
    space = space_of((TILE, 12, 1), (OTHER, 0, 1))
    vector = np.array([12, 3], dtype=np.int32)
    for place in (-1, 3, 6):
        space.meet(np.array([12, place], dtype=np.int32))
    space.meet(np.array([12, OPEN], dtype=np.int32))
    found = {int(space.mutate(vector, rng)[-1]) for _ in range(60)}
    assert found == {-1, 6, OPEN}


def test_a_child_has_each_slot_from_one_of_its_parents(rng: np.random.Generator) -> None:
    space = space_of(*PRODUCT)
    # parents that differ in every slot
    one = np.array([96, 1, 1, 1, 49, 1, 1, 1, 128, 1, 0, 3], dtype=np.int32)
    other = np.array([1, 8, 4, 3, 1, 7, 7, 1, 8, 16, 3, 5], dtype=np.int32)
    from_one = np.zeros(len(space.slots))
    for _ in range(200):
        child = space.cross(one, other, rng)
        for number, slot in enumerate(space.slots):
            part = slice(slot.start, slot.stop)
            mine, theirs = (np.array_equal(child[part], p[part]) for p in (one, other))
            assert mine != theirs
            from_one[number] += mine
    assert (abs(from_one / 200 - 0.5) < 0.15).all()


def all_tilings(extent: int, width: int, limit: int) -> list[tuple[int, ...]]:
    divisors = [d for d in range(1, extent + 1) if extent % d == 0]
    return [
        t
        for t in itertools.product(divisors, repeat=width)
        if math.prod(t) == extent and t[-1] <= limit
    ]


@pytest.mark.parametrize(
    ("extent", "factors"),
    [(96, (4, 2, 7, 8)), (56, (28, 1, 1, 2)), (12, (1, 64, 1, 1)), (60, (1, 1, 1, 64))],
)
def test_the_nearest_tiling_is_the_nearest_of_all(extent: int, factors: tuple[int, ...]) -> None:
    found = nearest_tiling(Slot(TILE, "SamplePerfectTile", 0, 4, extent, 16), factors)
    wanted = np.log2(np.asarray(factors, dtype=float))
    wanted[0] += math.log2(extent) - wanted.sum()

    def gap(tiling: tuple[int, ...]) -> float:
        return float(np.square(np.log2(tiling) - wanted).sum())

    everything = all_tilings(extent, 4, 16)
    assert tuple(int(n) for n in found) in everything
    assert gap(tuple(found)) == pytest.approx(min(map(gap, everything)))


def test_inner_tiles_stay_and_the_outermost_takes_the_difference() -> None:
    slot = Slot(TILE, "SamplePerfectTile", 0, 4, 256, 64)
    assert nearest_tiling(slot, (2, 4, 2, 8)).tolist() == [4, 4, 2, 8]


def test_an_extent_of_too_many_tilings_gets_a_near_one_quickly() -> None:
    extent = 2**12 * 3**4 * 5**2
    slot = Slot(TILE, "SamplePerfectTile", 0, 5, extent, 64)
    found = [int(n) for n in nearest_tiling(slot, (7, 64, 8, 16, 32))]
    assert math.prod(found) == extent
    assert found[-1] <= 64
    # each inner factor within a factor of four of what was wanted
    assert np.abs(np.log2(found[1:]) - np.log2([64, 8, 16, 32])).max() <= 2


def test_an_extent_that_no_tiling_within_the_limit_has_is_still_covered() -> None:
    slot = Slot(TILE, "SamplePerfectTile", 0, 1, 97, 64)
    assert nearest_tiling(slot, (64,)).tolist() == [97]


def test_a_siblings_decisions_are_refitted_in_order(rng: np.random.Generator) -> None:
    mine = space_of((TILE, 192, 4), (TILE, 98, 4), (TILE, 64, 2), (CHOICE, 4, 1), (OTHER, 0, 1))
    theirs = space_of(*PRODUCT)
    vector = np.array([12, 1, 1, 8, 7, 1, 7, 1, 32, 4, 3, 5], dtype=np.int32)
    fitted = mine.refit(theirs, vector)
    assert fitted is not None
    assert fitted.tolist() == [24, 1, 1, 8, 14, 1, 7, 1, 16, 4, 3, 5]
    for _ in range(50):
        refitted = mine.refit(theirs, theirs.sample(rng))
        assert refitted is not None
        check(mine, refitted)
        assert refitted[-1] == OPEN


def test_refitting_to_oneself_changes_nothing(rng: np.random.Generator) -> None:
    space = space_of(*PRODUCT)
    vector = space.sample(rng)
    fitted = space.refit(space, vector)
    assert fitted is not None
    np.testing.assert_array_equal(fitted, vector)


def test_a_slot_that_the_sibling_lacks_is_left_open() -> None:
    theirs = space_of(*PRODUCT)
    mine = space_of(*PRODUCT, (OTHER, 0, 1))
    vector = np.array([12, 1, 1, 8, 7, 1, 7, 1, 32, 4, 3, 5], dtype=np.int32)
    fitted = mine.refit(theirs, vector)
    assert fitted is not None
    assert fitted.tolist() == [*vector.tolist(), OPEN]
    back = theirs.refit(mine, fitted)
    assert back is not None
    assert back.tolist() == vector.tolist()


def test_unlike_loops_are_refused(rng: np.random.Generator) -> None:
    product = space_of(*PRODUCT)
    for parts in (PRODUCT[1:], (*PRODUCT, (TILE, 8, 4)), ((TILE, 96, 3), *PRODUCT[1:])):
        other = space_of(*parts)
        assert product.refit(other, other.sample(rng)) is None
        assert other.refit(product, product.sample(rng)) is None
        assert product.distance(other) == math.inf


def test_a_choice_of_other_values_becomes_the_nearest_value() -> None:
    def choosing(values: tuple[float, ...]) -> DecisionSpace:
        return DecisionSpace([Slot(CHOICE, "SampleCategorical", 0, 1, len(values), values=values)])

    few, many = choosing((0.0, 16.0, 512.0)), choosing((0.0, 64.0, 500.0, 1024.0))
    for index, expected in ((0, 0), (1, 0), (2, 2)):
        fitted = many.refit(few, np.array([index], dtype=np.int32))
        assert fitted is not None
        assert fitted.tolist() == [expected]


def test_distance_grows_with_the_difference_of_extents() -> None:
    base = space_of((TILE, 64, 4), (TILE, 64, 2))
    near = space_of((TILE, 128, 4), (TILE, 64, 2))
    far = space_of((TILE, 512, 4), (TILE, 16, 2))
    assert base.distance(base) == 0
    assert base.distance(near) == near.distance(base) == pytest.approx(1)
    assert base.distance(far) == pytest.approx(3 + 2)


def test_encoding_gives_logarithms_of_factors_and_unknown_for_what_is_open() -> None:
    space = space_of((TILE, 32, 2), (CHOICE, 4, 1), (OTHER, 0, 1))
    rows = space.encode([np.array([4, 8, 3, OPEN]), np.array([32, 1, 0, 7])])
    np.testing.assert_array_equal(rows, [[2, 3, 3, np.nan], [5, 0, 0, 7]])
    assert rows.dtype == np.float32
    assert space.encode([]).shape == (0, 4)
