import math

import numpy as np
import pytest

from costmodels._local import Own, Surrogate, expected_improvement


def synthetic(count, seed):
    """Candidates whose time is what a mean says plus a smooth term of two features."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0.0, 1.0, (count, 4)).astype(np.float32)
    mean = rows[:, 2].astype(float)
    log_s = mean - 12.0 + np.sin(3.0 * rows[:, 0]) - 1.5 * rows[:, 1]
    return rows, mean, log_s


def test_the_mean_is_corrected_near_what_was_measured():
    rows, mean, log_s = synthetic(60, seed=0)
    near = rows + np.random.default_rng(1).normal(0.0, 0.02, rows.shape).astype(np.float32)
    predicted, _ = Surrogate(Own(rows, log_s, mean), near, mean).predict()
    alone = mean + (log_s - mean).mean()
    assert np.abs(predicted - log_s).mean() < 0.3 * np.abs(alone - log_s).mean()


def test_a_measured_candidate_is_surer_than_one_unlike_all():
    rows, mean, log_s = synthetic(40, seed=0)
    asked = np.concatenate([rows[:1], [[5.0, -4.0, 3.0, -5.0]]]).astype(np.float32)
    predicted, deviation = Surrogate(
        Own(rows, log_s, mean), asked, np.array([mean[0], 3.0])
    ).predict()
    assert predicted[0] == pytest.approx(log_s[0], abs=0.25)
    assert deviation[0] < 0.6 * deviation[1]
    # far away there is nothing to add to the mean but the constant
    assert predicted[1] == pytest.approx(3.0 + (log_s - mean).mean(), abs=0.05)


def test_a_constant_of_the_mean_makes_no_difference():
    rows, mean, log_s = synthetic(30, seed=0)
    others, their_mean, _ = synthetic(20, seed=1)
    plain = Surrogate(Own(rows, log_s, mean), others, their_mean).predict()
    moved = Surrogate(Own(rows, log_s, mean + 7.0), others, their_mean + 7.0).predict()
    np.testing.assert_allclose(plain, moved, atol=1e-9)


def test_features_that_do_not_vary_do_no_harm():
    rows, mean, log_s = synthetic(30, seed=0)
    same = np.ones((30, 3), dtype=np.float32)
    plain = Surrogate(Own(rows, log_s, mean), rows, mean).predict()
    wider = np.concatenate([rows, same], axis=1)
    np.testing.assert_allclose(plain, Surrogate(Own(wider, log_s, mean), wider, mean).predict())
    flat = Surrogate(Own(same, log_s, mean), same, mean).predict()
    assert np.isfinite(flat).all()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-2.0, 0.5), (1.0, 0.3), (3.0, 2.0)])
def test_expected_improvement_is_the_integral_it_stands_for(mean, deviation):
    best = 0.4
    values = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 400_001)
    density = np.exp(-0.5 * ((values - mean) / deviation) ** 2) / (
        deviation * math.sqrt(2 * math.pi)
    )
    step = values[1] - values[0]
    integral = float((np.maximum(best - values, 0.0) * density).sum() * step)
    found = expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert found[0] == pytest.approx(integral, rel=1e-5)


def test_chosen_positions_are_distinct_and_led_by_the_largest_gain():
    rows, mean, log_s = synthetic(40, seed=0)
    others, their_mean, _ = synthetic(50, seed=1)
    surrogate = Surrogate(Own(rows, log_s, mean), others, their_mean)
    chosen, gains = surrogate.choose(12)
    assert len(set(chosen.tolist())) == len(gains) == 12
    first = expected_improvement(*surrogate.predict(), surrogate.best)
    assert chosen[0] == np.argmax(first)
    assert gains[0] == pytest.approx(first.max())
    assert (gains >= 0).all()
    everything, _ = surrogate.choose(80)
    assert sorted(everything.tolist()) == list(range(50))


def test_a_round_is_not_filled_with_neighbours():
    rows, mean, log_s = synthetic(40, seed=0)
    rng = np.random.default_rng(1)
    # far from what was measured, twelve hardly apart, and twenty a little slower and well apart
    crowd = 60.0 + rng.normal(0.0, 1e-3, (12, 4))
    apart = rng.uniform(-90.0, -15.0, (20, 4))
    asked = np.concatenate([crowd, apart]).astype(np.float32)
    their_mean = np.concatenate([np.zeros(12), np.full(20, 0.1)])
    surrogate = Surrogate(Own(rows, log_s, mean), asked, their_mean)
    at_once = np.argsort(-expected_improvement(*surrogate.predict(), surrogate.best))[:8]
    chosen, _ = surrogate.choose(8)
    assert (at_once < 12).all()
    assert chosen[0] < 12
    assert (chosen < 12).sum() <= 2


def test_without_hope_the_best_predicted_comes_first():
    rows, mean, log_s = synthetic(40, seed=0)
    others, _, _ = synthetic(10, seed=1)
    hopeless = 40.0 + np.arange(10.0)[::-1]
    chosen, gains = Surrogate(Own(rows, log_s, mean), others, hopeless).choose(10)
    assert chosen.tolist() == list(range(10))[::-1]
    assert gains.max() < 1e-6


def test_only_the_latest_measurements_count():
    rows, mean, log_s = synthetic(300, seed=0)
    others, their_mean, _ = synthetic(20, seed=1)
    everything = Surrogate(Own(rows, log_s, mean), others, their_mean)
    latest = Surrogate(Own(rows[44:], log_s[44:], mean[44:]), others, their_mean)
    np.testing.assert_allclose(everything.predict(), latest.predict())


def test_times_of_recorded_candidates_are_told_better_than_by_the_mean(recorded):
    for name, measured in recorded.items():
        batch = measured.batch()
        seconds = np.log2(measured.seconds)
        errors = []
        for seed in range(6):
            order = np.random.default_rng(seed).permutation(80)
            known, rest = order[:60], order[60:]
            own = Own(batch.rows[known], seconds[known], -batch.prior[known])
            predicted, _ = Surrogate(own, batch.rows[rest], -batch.prior[rest]).predict()
            alone = -batch.prior[rest] + (own.log_s - own.mean).mean()
            errors.append([np.abs(p - seconds[rest]).mean() for p in (predicted, alone)])
        with_own, without = np.mean(errors, axis=0)
        assert with_own < 0.98 * without, name
