"""Evolution over decisions, under a score that is known: how near the tilings are to given ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from familyseer.search._decisions import TILE, Decisions, Slot
from familyseer.search._proposals import new_context
from familyseer.search._sketch import Sketch, sketch_of, sketches_of
from familyseer.tvm_env import load_tvm

# of a product of 256 x 256 x 256
WANTED = ((2, 8, 1, 16), (1, 4, 8, 8), (32, 8))


class Space:
    """A subgraph's design space, and the score that is searched under."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.sketches = sketches_of(context.generate_design_space())

    def score(self, sketch: Sketch, vector: Decisions) -> float:
        tilings = [s for s in sketch.slots if s.kind == TILE]
        gap = sum(
            np.abs(np.log2(vector[s.start : s.stop]) - np.log2(wanted)).sum()
            for s, wanted in zip(tilings, WANTED, strict=True)
        )
        return float(2.0 ** (-0.25 * gap))

    def scores(self, schedules: list[Any]) -> np.ndarray:
        found = []
        for schedule in schedules:
            read = ((s, s.read(schedule.trace)) for s in self.sketches)
            found.append(next(self.score(s, v) for s, v in read if v is not None))
        return np.asarray(found)

    def evolution(
        self, seed: int = 0, rescore: Any = None, scores: Any = None, **options: Any
    ) -> Any:
        from familyseer.search._evolution import Evolution

        rng = np.random.default_rng(seed)
        scores = scores or self.scores
        return Evolution(self.context, self.sketches, scores, rescore, rng, **options)


@pytest.fixture(scope="module")
def space(cpu: Any, make_dense: Any) -> Space:
    return Space(new_context(make_dense(256, 256, 256), cpu, seed=0, threads=1))


@pytest.fixture
def applications(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Every vector of decisions that is applied, in order."""
    from familyseer.search import _apply

    applied: list[tuple[int, bytes]] = []
    apply_decisions = _apply.apply_decisions

    def noted(context: Any, sketch: Sketch, vector: Decisions, seed: int) -> Any:
        applied.append((id(sketch), vector.tobytes()))
        return apply_decisions(context, sketch, vector, seed)

    monkeypatch.setattr(_apply, "apply_decisions", noted)
    return applied


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Decisions], bool]], None]:
    """Makes decisions fail to be applied."""
    from familyseer.search import _apply

    def refuse(which: Callable[[Decisions], bool]) -> None:
        apply_decisions = _apply.apply_decisions
        monkeypatch.setattr(
            _apply,
            "apply_decisions",
            lambda c, sketch, v, seed: None if which(v) else apply_decisions(c, sketch, v, seed),
        )

    return refuse


def test_draws_are_distinct_candidates(space: Space) -> None:
    drawn = space.evolution().draw(30)
    assert len(drawn) == 30
    assert len({a.digest for a in drawn}) == 30
    for one in drawn:
        read = space.sketches[one.genes[0]].read(one.schedule.trace)
        np.testing.assert_array_equal(read, one.genes[1])


def test_no_decisions_are_applied_twice(
    space: Space, applications: list[tuple[int, bytes]]
) -> None:
    evolution = space.evolution()
    drawn = evolution.rank(evolution.draw(20))
    elite = [a.genes for a in drawn[:3]]
    before = len(applications)
    assert evolution.apply(elite) == []
    assert len(applications) == before
    everything = {a.digest for a in drawn}
    for _ in range(3):
        # all are taken, so that none is recalled
        found = evolution.evolve(elite, 12, taken=everything)
        everything |= {a.digest for a in found}
    assert len(applications) > 40
    assert len(set(applications)) == len(applications) == evolution.applications


def test_evolution_finds_better_candidates_than_as_many_draws(space: Space) -> None:
    wins, gains = 0, []
    for seed in range(3):
        evolution = space.evolution(seed)
        taken: set[int] = set()
        best = 0.0
        for _ in range(4):
            found = evolution.evolve([], 24, taken)
            taken |= {a.digest for a in found}
            best = max([best, *(a.score for a in found)])
        random = space.evolution(seed + 100)
        drawn = random.rank(random.draw(evolution.applications))
        wins += best > drawn[0].score
        gains.append(best / drawn[0].score)
    assert wins == 3
    assert np.mean(gains) > 1.5


def test_the_sieve_finds_more_with_as_many_applications(space: Space) -> None:
    def best(cascade: bool, seed: int) -> float:
        evolution = space.evolution(seed, cascade=cascade)
        taken: set[int] = set()
        top = 0.0
        while evolution.applications < 80:
            found = evolution.evolve([], 18, taken)
            taken |= {a.digest for a in found}
            top = max([top, *(a.score for a in found)])
        return top

    sieved = [best(True, seed) for seed in range(4)]
    plain = [best(False, seed) for seed in range(4)]
    assert np.mean(np.log2(sieved)) > np.mean(np.log2(plain))


def test_candidates_come_best_predicted_first(space: Space) -> None:
    found = space.evolution().evolve([], 24, taken=())
    scores = [a.score for a in found]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(scores, space.scores([a.schedule for a in found]))


def test_children_are_bred_from_the_measured_elite(space: Space) -> None:
    sketch = space.sketches[0]
    vector = sketch.sample(np.random.default_rng(0))
    for slot, wanted in zip((s for s in sketch.slots if s.kind == TILE), WANTED, strict=True):
        vector[slot.start : slot.stop] = wanted
    found = [space.evolution(seed).evolve([(0, vector)], 24, taken=()) for seed in range(12)]
    # nothing random comes near what a relation of the best scores
    evolutions = [space.evolution(seed) for seed in range(12)]
    drawn = [evolution.rank(evolution.draw(30)) for evolution in evolutions]
    assert np.median([f[0].score for f in found]) > 0.5 > max(d[0].score for d in drawn)


def test_exploring_finds_the_best_of_places_that_the_model_holds_to_be_slow(space: Space) -> None:
    def biased(schedules: list[Any]) -> np.ndarray:
        which = np.asarray([sketch_of(s.trace, space.sketches) for s in schedules])
        return space.scores(schedules) * np.where(which == 0, 1e-3, 1.0)

    evolution = space.evolution(scores=biased)
    drawn = evolution.rank(evolution.draw(60))
    elite = [a.genes for a in drawn if a.genes[0] != 0][:8]
    bred = evolution.evolve(elite, 48, taken=())[:12]
    assert all(a.genes[0] != 0 for a in bred)
    found = evolution.explore(elite, 12, 120)
    assert 8 <= len(found) <= 12
    assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)
    slow = [a.score for a in found if a.genes[0] == 0]
    assert slow
    # chosen among their like, not drawn
    assert np.median(slow) > np.median([a.score for a in drawn if a.genes[0] == 0])


def test_a_place_is_where_the_fastest_is_not(space: Space) -> None:
    evolution = space.evolution()
    drawn = evolution.draw(20)
    for seconds, one in enumerate(drawn):
        evolution.tell(float(seconds), one.genes)
    fastest = drawn[0].genes
    numbers = set()
    for _ in range(200):
        (index, anchor), fixed = evolution._place(fastest)
        numbers.add(len(fixed))
        alike = all((anchor == fastest[1])[s.start : s.stop].all() for s in fixed)
        assert index != fastest[0] or not alike
    assert {1, 2, 3} <= numbers


def test_far_is_more_than_one_decision_from_all_that_was_measured(space: Space) -> None:
    evolution, sketch = space.evolution(), space.sketches[0]
    first, second = [slot for slot in sketch.slots if slot.kind == TILE][:2]
    vector = sketch.sample(np.random.default_rng(0))

    def changed(*slots: Slot) -> Decisions:
        other = vector.copy()
        for slot in slots:
            other[slot.start : slot.stop] = np.roll(other[slot.start : slot.stop], 1)
        assert all(np.any(other[s.start : s.stop] != vector[s.start : s.stop]) for s in slots)
        return other

    assert evolution.is_far((0, vector))
    evolution.tell(1e-3, (0, vector))
    assert [evolution.is_far((0, v)) for v in (vector, changed(first))] == [False, False]
    assert evolution.is_far((0, changed(first, second)))
    assert evolution.is_far((1, vector))
    evolution.tell(1e-3, (0, changed(second)))
    assert not evolution.is_far((0, changed(first, second)))


def test_places_are_bred_from_the_fastest_measured_there(space: Space) -> None:
    index = next(i for i, s in enumerate(space.sketches) if len(s.slots) == 4)
    wanted = np.array([n for tiling in WANTED for n in tiling] + [0], dtype=np.int32)

    def explored(seed: int, told: bool) -> float:
        evolution = space.evolution(seed)
        elite = [a.genes for a in evolution.rank(evolution.draw(30)) if a.genes[0] != index][:4]
        evolution.apply([(index, wanted)])
        if told:
            evolution.tell(1.0, (index, wanted))
        return float(evolution.explore(elite, 8, 64)[0].score)

    assert min(explored(seed, told=True) for seed in range(3)) > 0.5
    assert max(explored(seed, told=False) for seed in range(3)) < 0.5


def test_what_was_found_but_not_taken_is_recalled(space: Space) -> None:
    evolution = space.evolution()
    drawn = evolution.rank(evolution.draw(16))
    taken = {a.digest for a in drawn[:2]}
    recalled = evolution.recall(3, taken)
    assert [a.digest for a in recalled] == [a.digest for a in drawn[2:5]]
    assert [a.score for a in recalled] == [a.score for a in drawn[2:5]]
    assert recalled[0].schedule.mod.script() == drawn[2].schedule.mod.script()
    assert evolution.recall(3, {a.digest for a in drawn}) == []


def test_what_is_recalled_is_judged_by_the_present_model(space: Space) -> None:
    # the model has turned round since, and has forgotten one
    now: dict[int, float] = {}
    evolution = space.evolution(
        rescore=lambda digests: np.asarray([now.get(d, np.nan) for d in digests])
    )
    drawn = evolution.rank(evolution.draw(16))
    forgotten, favourite = drawn[3], drawn[-1]
    now.update({a.digest: 2.0 - a.score for a in drawn if a is not forgotten})
    found = {a.digest: a.score for a in evolution.evolve([], 20, taken={drawn[-2].digest})}
    assert found[favourite.digest] == pytest.approx(2.0 - favourite.score)
    assert found.get(forgotten.digest, forgotten.score) == forgotten.score
    assert drawn[0].digest not in found


def test_genes_are_read_from_any_schedule_of_the_subgraph(space: Space, make_dense: Any) -> None:
    evolution = space.evolution()
    for one in evolution.draw(6):
        genes = evolution.genes_of(one.schedule)
        assert genes is not None
        assert genes[0] == one.genes[0]
        np.testing.assert_array_equal(genes[1], one.genes[1])
    untouched = load_tvm(intrinsics=True).s_tir.Schedule(make_dense(256, 256, 256).mod)
    assert evolution.genes_of(untouched) is None


def test_draws_go_on_past_what_is_refused(
    space: Space, refusing: Callable[[Callable[[Decisions], bool]], None]
) -> None:
    refusing(lambda vector: bool(vector[1] > 4))
    evolution = space.evolution()
    drawn = evolution.draw(12)
    assert len(drawn) == 12
    assert all(a.genes[1][1] <= 4 for a in drawn)
    assert evolution.applications > 12


def test_the_sieve_learns_what_is_refused(
    space: Space, refusing: Callable[[Callable[[Decisions], bool]], None]
) -> None:
    refusing(lambda vector: bool(vector[1] > 2 or vector[5] > 2))

    def refused(cascade: bool, seed: int) -> float:
        evolution = space.evolution(seed, cascade=cascade)
        evolution.rank(evolution.draw(24))
        sieve, apply, tried, kept = evolution._sieve, evolution.apply, 0, 0
        children: list[Any] = []

        def sieving(*given: Any) -> Any:
            nonlocal children
            children = sieve(*given)
            return children

        def counting(genes: Any) -> Any:
            nonlocal tried, kept
            applied = apply(genes)
            if genes is children:  # and not drawn
                tried, kept = tried + len(genes), kept + len(applied)
            return applied

        evolution._sieve, evolution.apply = sieving, counting
        taken: set[int] = set()
        for _ in range(4):
            taken |= {a.digest for a in evolution.evolve([], 24, taken=taken)}
        return 1 - kept / tried

    plain, sieved = (np.mean([refused(on, seed) for seed in range(3)]) for on in (False, True))
    assert plain > 0.1
    assert sieved < 0.6 * plain


def test_a_space_that_refuses_everything_gives_nothing(
    space: Space, refusing: Callable[[Callable[[Decisions], bool]], None]
) -> None:
    refusing(lambda _vector: True)
    evolution = space.evolution()
    assert evolution.draw(4) == []
    assert evolution.evolve([], 12, taken=()) == []
    assert evolution.applications > 0
