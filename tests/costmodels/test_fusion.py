import numpy as np
import pytest

from costmodels._fusion import GRID, Fusion, mix
from costmodels.metrics import pairwise_accuracy


def judge(fusion, rng, *, shared_noise, own_noise, rounds, size=16):
    """Rounds of candidates whose times both models see through noise of their own."""
    for _ in range(rounds):
        goodness = rng.uniform(0.2, 1.0, size)
        shared = goodness + rng.normal(0.0, shared_noise, size)
        own = goodness + rng.normal(0.0, own_noise, size)
        fusion.judge(shared, own, 1.0 / np.square(goodness))


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_the_shared_model_leads_at_first():
    assert Fusion().weight == 0.0


def test_equal_models_of_the_same_opinion_leave_the_lead_to_the_shared_one(rng):
    fusion = Fusion()
    for _ in range(3):
        goodness = rng.uniform(0.2, 1.0, 16)
        fusion.judge(goodness, goodness, 1.0 / goodness)
    assert fusion.weight == 0.0


def test_one_good_round_is_not_enough_and_many_are(rng):
    fusion = Fusion()
    judge(fusion, rng, shared_noise=0.2, own_noise=0.15, rounds=1, size=4)
    assert fusion.weight < 1.0
    judge(fusion, rng, shared_noise=0.6, own_noise=0.02, rounds=6)
    assert fusion.weight >= 0.75


def test_the_lead_goes_back_when_the_own_model_fails(rng):
    fusion = Fusion()
    judge(fusion, rng, shared_noise=0.6, own_noise=0.02, rounds=6)
    assert fusion.weight >= 0.75
    judge(fusion, rng, shared_noise=0.02, own_noise=0.6, rounds=12)
    assert fusion.weight <= 0.25


def test_two_models_that_err_apart_are_mixed(rng):
    fusion = Fusion()
    judge(fusion, rng, shared_noise=0.3, own_noise=0.3, rounds=30)
    assert 0.0 < fusion.weight < 1.0
    goodness = rng.uniform(0.2, 1.0, 400)
    shared, own = (goodness + rng.normal(0.0, 0.3, 400) for _ in range(2))
    mixed = mix(shared, own, fusion.weight)
    accuracy = [pairwise_accuracy(scores, 1 / goodness) for scores in (mixed, shared, own)]
    assert accuracy[0] > max(accuracy[1:])


def test_failures_and_rounds_without_an_order_are_harmless():
    fusion = Fusion()
    ones = np.ones(4)
    fusion.judge(ones, ones, np.full(4, np.inf))
    fusion.judge(ones[:0], ones[:0], ones[:0])
    assert fusion.weight == 0.0
    fusion.judge(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([1.0, np.inf]))
    assert [j.value for j in fusion.judged] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_mixing_goes_from_the_shared_to_the_own_model():
    shared, own = np.array([1.0, 0.0]), np.array([0.0, 2.0])
    found = [mix(shared, own, weight).tolist() for weight in GRID]
    assert found == [[1.0, 0.0], [0.75, 0.5], [0.5, 1.0], [0.25, 1.5], [0.0, 2.0]]
