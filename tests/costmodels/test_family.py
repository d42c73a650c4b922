import numpy as np

from costmodels._booster import Booster
from costmodels._family import Family
from costmodels._samples import Samples
from costmodels.features import Batch
from costmodels.metrics import pairwise_accuracy


def part(batch, rows):
    return Batch(batch.rows[rows], batch.prior[rows], batch.valid[rows])


def teach(family, key, measured, order, batch_size=16):
    batch = measured.batch()
    for i in range(0, len(order), batch_size):
        rows = order[i : i + batch_size]
        family.learn(key, part(batch, rows), measured.seconds[rows], seed=0, threads=1)


def accuracy_of(family, measured, rows):
    return pairwise_accuracy(family.score(part(measured.batch(), rows)), measured.seconds[rows])


def test_learning_beats_the_prior_on_candidates_not_seen(recorded):
    gains = []
    for name, measured in recorded.items():
        order = np.random.default_rng(0).permutation(80)
        family = Family()
        prior = accuracy_of(family, measured, order[48:])
        teach(family, name, measured, order[:48])
        gains.append(accuracy_of(family, measured, order[48:]) - prior)
    assert np.mean(gains) > 0.02, gains


def test_a_sibling_never_measured_is_ranked_by_what_others_taught(recorded):
    family = Family()
    for name in ("conv2d_1x1_a", "conv2d_3x3_a", "conv2d_3x3_b"):
        teach(family, name, recorded[name], np.arange(80))
    everything = np.arange(80)
    learned = accuracy_of(family, recorded["conv2d_1x1_b"], everything)
    assert learned > 0.65
    assert learned > accuracy_of(Family(), recorded["conv2d_1x1_b"], everything) - 0.02


def test_an_untrained_family_ranks_by_the_prior(recorded):
    batch = recorded["dense"].batch()
    assert (np.argsort(Family().score(batch)) == np.argsort(batch.prior)).all()


def test_scores_are_positive_and_an_invalid_candidate_is_below_all(recorded):
    measured = recorded["dense"]
    batch = measured.batch()
    batch.valid[3] = False
    family = Family()
    for _ in range(2):
        scores = family.score(batch)
        assert scores[3] == 0
        assert (np.delete(scores, 3) > 0).all()
        teach(family, "dense", measured, np.arange(80))
    assert family.booster is not None


def test_labels_follow_a_new_best_and_failures_stay_at_zero():
    samples = Samples()
    rows = np.zeros((2, 170), dtype=np.float32)
    samples.add("a", rows, np.zeros(2), np.array([2.0, np.inf]))
    samples.add("b", rows, np.zeros(2), np.array([8.0, 4.0]))
    assert samples.labels().tolist() == [1.0, 0.0, 0.5, 1.0]
    samples.add("a", rows[:1], np.zeros(1), np.array([1.0]))
    assert samples.labels().tolist() == [0.5, 0.0, 0.5, 1.0, 1.0]


def test_only_failures_leave_a_family_untrained(recorded):
    batch = recorded["dense"].batch()
    family = Family()
    family.learn("dense", batch, np.full(80, np.inf), seed=0, threads=1)
    assert family.booster is None
    assert np.isfinite(family.score(batch)).all()


def test_the_held_out_candidates_stay_the_same_and_are_never_trained_on(recorded):
    samples = Samples()
    for name in ("conv2d_1x1_a", "conv2d_3x3_a"):
        batch = recorded[name].batch()
        samples.add(name, batch.rows, batch.prior, recorded[name].seconds)
    before = samples.held_out(0)
    more = recorded["dense"].batch()
    samples.add("dense", more.rows, more.prior, recorded["dense"].seconds)
    after = samples.held_out(0)
    assert 10 <= before.sum() <= 40
    np.testing.assert_array_equal(before, after[:160])
    assert (samples.held_out(1) != after).any()

    booster = Booster.fit(samples.rows, samples.prior, samples.labels(), after, seed=0, threads=1)
    wrong = samples.labels()
    wrong[after] = 1.0 - wrong[after]
    other = Booster.fit(samples.rows, samples.prior, wrong, after, seed=0, threads=1)
    rounds = min(booster.training.rounds, other.training.rounds)
    trees = [b.booster[:rounds].get_dump() for b in (booster, other)]
    assert trees[0] == trees[1]
    assert booster.training.rmse is not None


def test_training_waits_until_it_pays(recorded):
    measured = recorded["conv2d_1x1_a"]
    family = Family()
    order = np.arange(80)
    teach(family, "a", measured, order[:12], 4)
    assert family.trainings == 0
    teach(family, "a", measured, order[12:32], 20)
    assert family.trainings == 1
    family.fell = False
    family.samples.add(
        "a", measured.batch().rows[:2], measured.batch().prior[:2], measured.seconds[:2]
    )
    assert not family._pays()
    family.fell = True
    assert family._pays()


def test_a_booster_that_predicts_worse_than_the_prior_is_not_used(recorded):
    measured = recorded["conv2d_1x1_a"]
    family = Family()
    teach(family, "a", measured, np.arange(48))
    assert family.trusts_booster()
    family.booster_accuracy.right = 0.3 * family.booster_accuracy.total
    assert not family.trusts_booster()
    batch = measured.batch()
    assert (np.argsort(family.score(batch)) == np.argsort(batch.prior)).all()


def test_the_number_of_threads_changes_no_prediction(recorded):
    samples = Samples()
    for name, measured in recorded.items():
        batch = measured.batch()
        samples.add(name, batch.rows, batch.prior, measured.seconds)
    arguments = samples.rows, samples.prior, samples.labels(), samples.held_out(0)
    one, two = (Booster.fit(*arguments, seed=0, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(
        one.predict(samples.rows, samples.prior), two.predict(samples.rows, samples.prior)
    )


def test_few_samples_are_all_trained_on(recorded):
    batch = recorded["dense"].batch()
    samples = Samples()
    samples.add("dense", batch.rows, batch.prior, recorded["dense"].seconds)
    assert not samples.held_out(0).any()
