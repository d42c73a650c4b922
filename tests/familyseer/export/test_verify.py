"""Right or wrong is decided by figures; the edges are where a check is easily blind."""

from __future__ import annotations

import numpy as np
import pytest

from familyseer.export._verify import compare_outputs, relative_error, tolerance


def test_equal_outputs_have_no_error() -> None:
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    assert compare_outputs([x, x], [x, x]) == (0.0, 0.0, True)


def test_the_error_is_relative_to_the_largest_magnitude() -> None:
    reference = np.array([1e-6, 100.0], dtype="float32")
    assert relative_error(np.array([2e-6, 100.0], dtype="float32"), reference) < 1e-7
    assert relative_error(np.array([1e-6, 90.0], dtype="float32"), reference) == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_where_there_should_be_one_is_wrong(bad: float) -> None:
    reference = np.ones(3, dtype="float32")
    got = reference.copy()
    got[1] = bad
    assert not compare_outputs([got], [reference])[2]
    assert not compare_outputs([reference], [got])[2]
    assert compare_outputs([got], [got])[2]


def test_other_shapes_and_counts_are_wrong() -> None:
    x = np.ones((2, 3), dtype="float32")
    assert not compare_outputs([x.T], [x])[2]
    assert not compare_outputs([x], [x, x])[2]


def test_zeros_must_be_zeros() -> None:
    zeros = np.zeros(3, dtype="float32")
    assert not compare_outputs([zeros + 1e-9], [zeros])[2]


def test_integers_must_be_equal() -> None:
    x = np.array([1, 2, 300000], dtype="int64")
    assert tolerance("int64") == 0.0
    assert not compare_outputs([x + np.array([0, 0, 1])], [x])[2]


def test_one_wrong_output_among_many_is_enough() -> None:
    x = np.ones(3, dtype="float32")
    worst_abs, _, right = compare_outputs([x, x + 1], [x, x])
    assert (worst_abs, right) == (1.0, False)


def test_empty_outputs_are_right() -> None:
    x = np.zeros((0, 3), dtype="float32")
    assert compare_outputs([x], [x])[2]
