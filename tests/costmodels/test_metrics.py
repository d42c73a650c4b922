import numpy as np
import pytest

from costmodels.metrics import DecayingAccuracy, pair_counts, pairwise_accuracy, top_k_recall


def test_a_perfect_order_is_one_its_reverse_zero_and_a_constant_a_coin():
    seconds = np.array([1.0, 2.0, 3.0, 4.0])
    assert pairwise_accuracy(-seconds, seconds) == 1.0
    assert pairwise_accuracy(seconds, seconds) == 0.0
    assert pairwise_accuracy(np.zeros(4), seconds) == 0.5


def test_times_within_noise_and_two_failures_have_no_order():
    assert pairwise_accuracy([1.0, 2.0], [1.0, 1.01]) is None
    assert pairwise_accuracy([1.0, 2.0], [np.inf, np.inf]) is None
    assert pair_counts([1.0, 2.0, 3.0], [np.inf, np.inf, 1.0]) == (2.0, 2)


def test_top_k_recall_counts_the_fastest_that_were_chosen():
    assert top_k_recall([4, 3, 2, 1], [1, 2, 3, 4], 2) == 1.0
    assert top_k_recall([4, 1, 3, 2], [1, 2, 3, 4], 2) == 0.5
    assert top_k_recall([1, 2], [2, 1], 9) == 1.0


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="one length"):
        pairwise_accuracy([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least 1"):
        top_k_recall([], [], 1)


def test_decaying_accuracy_forgets_what_was_long_ago():
    accuracy = DecayingAccuracy(half_life=8.0)
    assert accuracy.value is None
    seconds = np.arange(1.0, 9.0)
    for _ in range(4):
        accuracy.add(seconds, seconds)
    assert accuracy.value == 0.0
    for _ in range(6):
        assert accuracy.add(-seconds, seconds) == 1.0
    assert accuracy.value is not None
    assert accuracy.value > 0.95
