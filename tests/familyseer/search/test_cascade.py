"""The small model: what the full one said of a few decisions, told of many more."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels.metrics import pairwise_accuracy
from familyseer.search._cascade import LEAST_SAMPLES, DecisionModel
from familyseer.search._decisions import CHOICE, TILE, Decisions, DecisionSpace, Slot


def product(extent: int) -> DecisionSpace:
    return DecisionSpace(
        [
            Slot(TILE, "SamplePerfectTile", 0, 4, extent, 64),
            Slot(TILE, "SamplePerfectTile", 4, 4, extent, 64),
            Slot(CHOICE, "SampleCategorical", 8, 1, 4, values=(0.0, 16.0, 64.0, 512.0)),
        ]
    )


SKETCHES = (product(256), DecisionSpace(product(256).slots[:1]))


def goodness(which: int, vector: Decisions) -> float:
    """Best with 16 innermost and 8 beside it; the second sketch is worse by half."""
    gap = abs(np.log2(vector[3]) - 4) + 0.5 * abs(np.log2(vector[2]) - 3)
    if which == 0:
        gap += 0.5 * abs(float(vector[8]) - 2)
    return float(2.0 ** -(gap + which))


def drawn(count: int, seed: int) -> tuple[list[int], list[Decisions], np.ndarray]:
    rng = np.random.default_rng(seed)
    which = [int(i) for i in rng.integers(0, 2, count)]
    vectors = [SKETCHES[i].sample(rng) for i in which]
    scores = [goodness(i, vector) for i, vector in zip(which, vectors, strict=True)]
    return which, vectors, np.asarray(scores)


@pytest.fixture
def taught() -> DecisionModel:
    model = DecisionModel(SKETCHES, seed=0)
    model.fit(*drawn(120, seed=1))
    return model


def test_unseen_decisions_are_ranked_far_better_than_by_chance(taught: DecisionModel) -> None:
    which, vectors, scores = drawn(300, seed=2)
    ranks = taught.rank(which, vectors)
    accuracy = pairwise_accuracy(ranks, 1.0 / scores)
    assert accuracy is not None
    assert accuracy > 0.85
    kept = np.argsort(-ranks)[:30]
    assert scores[kept].mean() > 2 * scores.mean()


def test_only_the_order_of_scores_counts() -> None:
    which, vectors, scores = drawn(120, seed=1)
    plain, stretched = DecisionModel(SKETCHES, seed=0), DecisionModel(SKETCHES, seed=0)
    plain.fit(which, vectors, scores)
    stretched.fit(which, vectors, 1e3 * scores**3)
    others = drawn(50, seed=2)[:2]
    np.testing.assert_array_equal(plain.rank(*others), stretched.rank(*others))


def test_what_was_refused_is_ranked_last() -> None:
    which, vectors, scores = drawn(200, seed=1)
    refused = np.asarray([v[1] >= 8 for v in vectors])
    assert 20 < refused.sum() < 150
    model = DecisionModel(SKETCHES, seed=0)
    model.fit(which, vectors, np.where(refused, 0.0, scores))
    which, vectors, _ = drawn(300, seed=2)
    refused = np.asarray([v[1] >= 8 for v in vectors])
    last = np.argsort(model.rank(which, vectors))[: int(refused.sum())]
    assert refused[last].mean() > 0.85


def test_too_few_or_equal_scores_teach_nothing() -> None:
    model = DecisionModel(SKETCHES, seed=0)
    which, vectors, scores = drawn(LEAST_SAMPLES, seed=1)
    model.fit(which[1:], vectors[1:], scores[1:])
    assert not model.ready
    model.fit(which, vectors, np.ones(len(vectors)))
    assert not model.ready
    assert model.rank(which, vectors).tolist() == [0.0] * len(vectors)
    model.fit(which, vectors, scores)
    assert model.ready


def test_the_same_seed_ranks_the_same(taught: DecisionModel) -> None:
    again = DecisionModel(SKETCHES, seed=0)
    again.fit(*drawn(120, seed=1))
    others = drawn(50, seed=2)[:2]
    np.testing.assert_array_equal(taught.rank(*others), again.rank(*others))


def test_no_decisions_have_no_ranks(taught: DecisionModel) -> None:
    assert taught.rank([], []).shape == (0,)
