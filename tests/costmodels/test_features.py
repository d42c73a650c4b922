import subprocess
import sys

import numpy as np

from costmodels.features import BUFFERS, FEATURE_LENGTH, STORE_LENGTH, aggregate
from costmodels.metrics import pairwise_accuracy, top_k_recall
from costmodels.prior import Hardware
from tests.costmodels.conftest import RECORDED_ON


def test_rows_are_finite_and_of_one_length_whatever_the_number_of_stores(recorded):
    for measured in recorded.values():
        batch = measured.batch()
        assert batch.rows.shape == (80, FEATURE_LENGTH)
        assert np.isfinite(batch.rows).all()
        assert batch.valid.all()


def test_a_candidate_is_described_alike_alone_and_among_others(recorded):
    measured = recorded["max_pool2d"]
    together = measured.batch()
    for i in (0, 17, 79):
        alone = aggregate(measured.stores[i : i + 1], RECORDED_ON, measured.flops)
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        assert alone.prior[0] == together.prior[i]


def test_the_order_in_which_tvm_lists_buffers_does_not_matter(recorded):
    measured = recorded["conv2d_3x3_a"]
    swapped = [s.copy() for s in measured.stores]
    for s in swapped:
        first, second = slice(BUFFERS, BUFFERS + 18), slice(BUFFERS + 18, BUFFERS + 36)
        s[:, first], s[:, second] = s[:, second].copy(), s[:, first].copy()
    again = aggregate(swapped, RECORDED_ON, measured.flops)
    np.testing.assert_allclose(again.rows, measured.batch().rows, rtol=1e-5)


def test_odd_candidates_are_invalid_and_odd_numbers_are_tamed(recorded):
    good = recorded["dense"].stores[0]
    strange = np.full((2, STORE_LENGTH), np.nan)
    huge = np.full((1, STORE_LENGTH), np.inf)
    batch = aggregate(
        [np.zeros((0, STORE_LENGTH)), good, np.zeros((3, 7)), strange, huge], RECORDED_ON, 1e6
    )
    assert batch.valid.tolist() == [False, True, False, True, True]
    assert np.isfinite(batch.rows).all()
    assert np.isfinite(batch.prior[batch.valid]).all()
    assert len(aggregate([], RECORDED_ON, 1.0).rows) == 0


def test_the_prior_ranks_measured_candidates_better_than_a_coin(recorded):
    accuracies = {
        name: pairwise_accuracy(m.batch().prior, m.seconds) for name, m in recorded.items()
    }
    assert min(accuracies.values()) > 0.55, accuracies
    assert np.mean(list(accuracies.values())) > 0.7, accuracies
    recalls = [top_k_recall(m.batch().prior, m.seconds, 16) for m in recorded.values()]
    assert np.mean(recalls) > 2 * 16 / 80, recalls


def test_the_prior_knows_how_many_cores_there_are(recorded):
    measured = recorded["conv2d_1x1_a"]
    serial = np.array([s[:, 39].max() == 0 for s in measured.stores])
    assert 0 < serial.sum() < 80
    one, many = (
        aggregate(measured.stores, Hardware(cores, 64), measured.flops).rows[:, -2]
        for cores in (1, 32)
    )
    np.testing.assert_allclose(one[serial], many[serial], rtol=1e-6)
    assert (many[~serial] < one[~serial]).mean() > 0.9


def test_importing_costmodels_loads_neither_tvm_nor_xgboost():
    code = "import costmodels, sys; print([m for m in ('tvm', 'xgboost') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
