"""What is allowed follows from the types and the lengths of the sums, and nothing else is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from familyseer.check._compare import Allowed, compare
from familyseer.check._rounding import rounding_of, unit_roundoff
from tests.familyseer.check import planted


def test_the_error_grows_with_the_square_root_of_the_sum() -> None:
    short, long = (rounding_of(planted.matmul(4, 4, k)) for k in (16, 1024))
    assert (short.length, long.length) == (16, 1024)
    assert long.error == pytest.approx(8 * short.error)
    assert short.error == pytest.approx(4 * 2.0**-24)


def test_the_type_of_the_sum_counts() -> None:
    half = rounding_of(planted.matmul(4, 4, 64, dtype="float16"))
    assert half.error == pytest.approx(8 * 2.0**-11)
    assert rounding_of(planted.matmul(4, 4, 64, dtype="int8")).error == 0.0
    assert unit_roundoff("bfloat16") == 2.0**-8


def test_stages_add_up() -> None:
    both = rounding_of(planted.convolution())
    assert both.length == 9 * planted.CHANNELS
    assert both.error == pytest.approx((1 + math.sqrt(both.length)) * 2.0**-24)


def test_what_is_within_the_bound_is_right_and_what_is_beyond_is_not() -> None:
    reference = np.array([1.0, 100.0], dtype="float32")
    allowed = Allowed(relative=1e-5)
    assert compare(reference * np.float32(1 + 2e-5), reference, allowed).excess < 1
    # the bound is that of the element, not that of the largest one
    off = compare(reference + np.float32(2e-4), reference, allowed)
    assert off.excess > 1
    assert off.elements == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_and_none_are_never_alike(bad: float) -> None:
    reference = np.ones(3, dtype="float32")
    got = reference.copy()
    got[1] = bad
    wide = Allowed(moved=1e30)
    assert compare(got, reference, wide).excess == math.inf
    assert compare(reference, got, wide).excess == math.inf
    assert compare(got, got, wide).excess == 0
    ignored = np.array([False, True, False])
    assert compare(got, reference, wide, ignored).excess == 0


def test_integers_are_exact_unless_they_were_rounded_from_other_numbers() -> None:
    reference = np.arange(10, dtype="int32")
    got = reference.copy()
    got[3] += 1
    assert compare(got, reference, Allowed(relative=1.0, moved=9.0)).excess == math.inf
    assert compare(got, reference, Allowed(flips=1)).excess <= 1
    got[4] += 1
    assert compare(got, reference, Allowed(flips=1)).excess > 1


def test_another_shape_or_type_is_wrong() -> None:
    reference = np.ones((2, 3), dtype="float32")
    assert compare(reference.T, reference, Allowed(moved=9.0)).excess == math.inf
    assert compare(reference.astype("float64"), reference, Allowed(moved=9.0)).excess == math.inf


def test_a_scalar_is_compared() -> None:
    reference = np.array(2.0, dtype="float32")
    assert compare(reference, reference, Allowed()).excess == 0
    assert compare(reference + np.float32(1), reference, Allowed(relative=1e-7)).excess > 1


def test_nothing_to_compare_is_right() -> None:
    empty = np.zeros((0, 3), dtype="float32")
    assert compare(empty, empty, Allowed()).excess == 0
