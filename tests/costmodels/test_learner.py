import numpy as np
import pytest

from costmodels.features import FEATURE_LENGTH, Batch
from costmodels.learner import Learner
from costmodels.metrics import pairwise_accuracy

OFF = {"shared": False, "own": False, "local": False}
SIBLINGS = {"conv2d_1x1_a": "conv", "conv2d_1x1_b": "conv", "dense": "dense"}


def part(batch, chosen):
    return Batch(batch.rows[chosen], batch.prior[chosen], batch.valid[chosen])


def teach(learner, key, measured, chosen, size=16):
    batch = measured.batch()
    for i in range(0, len(chosen), size):
        some = chosen[i : i + size]
        learner.learn(key, part(batch, some), measured.seconds[some])


def accuracy_of(learner, key, measured, chosen):
    scores = learner.score(key, part(measured.batch(), chosen))
    return pairwise_accuracy(scores, measured.seconds[chosen])


def test_with_everything_off_candidates_are_ranked_by_the_estimate(recorded):
    learner = Learner(SIBLINGS, **OFF)
    teach(learner, "dense", recorded["dense"], np.arange(80))
    batch = recorded["dense"].batch()
    order = np.argsort(-batch.prior, kind="stable")
    assert (np.argsort(-learner.score("dense", batch), kind="stable") == order).all()
    chosen, gains = learner.choose("dense", batch, 10)
    assert chosen.tolist() == order[:10].tolist()
    assert np.isinf(gains).all()
    assert learner.family("dense").booster is None
    assert learner.shared.booster is None


@pytest.mark.parametrize(("switch", "least"), [("shared", 0.02), ("own", 0.02), ("local", 0.005)])
def test_each_model_alone_learns(recorded, switch, least):
    gains = []
    for key in recorded:
        order = np.random.default_rng(0).permutation(80)
        learner = Learner({key: key}, **{**OFF, switch: True})
        before = accuracy_of(learner, key, recorded[key], order[48:])
        teach(learner, key, recorded[key], order[:48])
        gains.append(accuracy_of(learner, key, recorded[key], order[48:]) - before)
    assert np.mean(gains) > least, gains


def test_switches_train_what_they_name_and_nothing_else(recorded):
    for shared in (True, False):
        for own in (True, False):
            learner = Learner(SIBLINGS, shared=shared, own=own, local=False)
            teach(learner, "dense", recorded["dense"], np.arange(32))
            assert (learner.shared.booster is not None) == shared
            assert (learner.family("dense").booster is not None) == own


def test_a_family_never_measured_is_ranked_by_the_shared_model(recorded):
    learner = Learner({**SIBLINGS, "conv2d_1x1_b": "another"}, local=False)
    teach(learner, "conv2d_1x1_a", recorded["conv2d_1x1_a"], np.arange(80))
    everything = np.arange(80)
    unseen = recorded["conv2d_1x1_b"]
    batch = unseen.batch()
    expected = learner.shared.booster.predict(batch.rows, batch.prior)
    np.testing.assert_allclose(learner.score("conv2d_1x1_b", batch), expected)
    assert accuracy_of(learner, "conv2d_1x1_b", unseen, everything) > 0.6
    assert learner.experience("another") == 80
    assert learner.samples("another") == 0


def test_what_is_chosen_is_faster_than_what_is_drawn(recorded):
    shares = []
    for key in SIBLINGS:
        order = np.random.default_rng(1).permutation(80)
        known, rest = order[:40], order[40:]
        learner = Learner(SIBLINGS)
        teach(learner, key, recorded[key], known)
        chosen, gains = learner.choose(key, part(recorded[key].batch(), rest), 8)
        assert len(set(chosen.tolist())) == 8
        assert ((gains >= 0) & (gains < 1)).all()
        seconds = recorded[key].seconds[rest]
        shares.append(np.median(seconds[chosen]) / np.median(seconds))
    assert np.mean(shares) < 0.7, shares


def test_before_anything_is_measured_the_gain_is_unknown(recorded):
    learner = Learner(SIBLINGS)
    batch = recorded["dense"].batch()
    teach(learner, "dense", recorded["dense"], np.arange(3))
    chosen, gains = learner.choose("dense", batch, 5)
    assert chosen.tolist() == np.argsort(-batch.prior, kind="stable")[:5].tolist()
    assert np.isinf(gains).all()
    teach(learner, "dense", recorded["dense"], np.arange(3, 4))
    assert np.isfinite(learner.choose("dense", batch, 5)[1]).all()


def test_invalid_candidates_are_scored_zero_never_chosen_and_never_learnt(recorded):
    batch = recorded["dense"].batch()
    batch.valid[::2] = False
    batch.rows[::2] = 0
    batch.prior[::2] = -np.inf
    learner = Learner(SIBLINGS)
    for _ in range(2):
        scores = learner.score("dense", batch)
        assert np.isfinite(scores).all()
        assert (scores[::2] == 0).all()
        assert (scores[1::2] > 0).all()
        chosen, _ = learner.choose("dense", batch, 80)
        assert sorted(chosen.tolist()) == list(range(1, 80, 2))
        learner.learn("dense", batch, recorded["dense"].seconds)
    assert learner.samples("dense") == 80


@pytest.mark.parametrize("count", [0, 3])
def test_a_batch_without_a_valid_candidate_is_no_trouble(recorded, count):
    learner = Learner(SIBLINGS)
    teach(learner, "dense", recorded["dense"], np.arange(32))
    rows = np.zeros((count, FEATURE_LENGTH), dtype=np.float32)
    batch = Batch(rows, np.full(count, -np.inf), np.zeros(count, dtype=np.bool_))
    assert learner.score("dense", batch).tolist() == [0.0] * count
    chosen, gains = learner.choose("dense", batch, 4)
    assert len(chosen) == len(gains) == 0
    learner.learn("dense", batch, np.full(count, np.inf))
    assert learner.samples("dense") == 32


def test_failures_are_learnt_and_do_not_break_what_is_local(recorded):
    learner = Learner(SIBLINGS)
    measured = recorded["dense"]
    batch = measured.batch()
    learner.learn("dense", part(batch, slice(0, 20)), np.full(20, np.inf))
    assert np.isinf(learner.choose("dense", batch, 4)[1]).all()
    seconds = measured.seconds.copy()
    seconds[20:60:3] = np.inf
    learner.learn("dense", part(batch, slice(20, 60)), seconds[20:60])
    assert learner.samples("dense") == 60
    assert (learner.score("dense", batch) > 0).all()
    assert np.isfinite(learner.choose("dense", batch, 4)[1]).all()


def test_a_subgraph_takes_its_measurements_to_another_family(recorded):
    learner = Learner(SIBLINGS)
    for key in ("conv2d_1x1_a", "conv2d_1x1_b"):
        teach(learner, key, recorded[key], np.arange(40))
    judged = learner.accuracy_on("conv2d_1x1_b")
    assert judged is not None
    learner.assign("conv2d_1x1_b", "late")
    assert (learner.samples("conv"), learner.samples("late")) == (40, 40)
    assert learner.accuracy_on("conv2d_1x1_b") == judged
    assert learner.accuracy("late") is None
    assert learner.experience("late") == 80


def test_a_subgraph_of_no_family_is_refused(recorded):
    with pytest.raises(KeyError):
        Learner(SIBLINGS).score("softmax", recorded["dense"].batch())


def test_the_same_seed_learns_the_same(recorded):
    found = []
    for _ in range(2):
        learner = Learner(SIBLINGS, seed=3)
        teach(learner, "dense", recorded["dense"], np.arange(48))
        found.append(learner.choose("dense", recorded["dense"].batch(), 20)[0])
    np.testing.assert_array_equal(*found)
