"""Inputs come from seeds alone, and stay inside the range where a reference means something."""

from __future__ import annotations

import numpy as np
import pytest

from familyseer.check._inputs import KINDS, Argument, Recipe, large_exponents, make_inputs

ARGUMENTS = [
    Argument((4, 40), "float32", False),
    Argument((40,), "float32", False),
    Argument((7,), "int64", False),
    Argument((4,), "float32", True),
    Argument((4,), "int32", True),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(kind: str) -> None:
    recipe = Recipe(kind, exponent=20)
    first, again, other = (make_inputs(ARGUMENTS, recipe, seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()
    assert kind == "zeros" or first[0].tobytes() != other[0].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_starts_as_nothing_that_a_kernel_would_compute(kind: str) -> None:
    made = make_inputs(ARGUMENTS, Recipe(kind), 0)
    assert np.isnan(made[3]).all()
    assert (made[4] == np.iinfo(np.int32).max).all()


@pytest.mark.parametrize("kind", KINDS)
def test_integers_may_index_any_table_of_two(kind: str) -> None:
    assert set(make_inputs(ARGUMENTS, Recipe(kind), 0)[2]) <= {0, 1}


def test_denormal_numbers_are_mixed_in_and_flushing_changes_only_them() -> None:
    recipe = Recipe("denormals")
    mixed = make_inputs(ARGUMENTS, recipe, 0)[0]
    small = np.abs(mixed) < np.finfo(np.float32).smallest_normal
    assert 0 < small.sum() < mixed.size / 4
    assert (mixed != 0).all()
    flushed = make_inputs(ARGUMENTS, Recipe("denormals", variant="flushed"), 0)[0]
    assert (flushed[small] == 0).all()
    assert (flushed[~small] == mixed[~small]).all()


def test_poison_is_in_the_data_alone_and_its_marks_are_at_the_same_places() -> None:
    poisoned = make_inputs(ARGUMENTS, Recipe("poisoned"), 0)
    where = ~np.isfinite(poisoned[0])
    assert where.sum() == 3
    assert np.isfinite(poisoned[1]).all()
    for variant in ("raised", "lowered"):
        marked = make_inputs(ARGUMENTS, Recipe("poisoned", variant=variant), 0)[0]
        assert (np.abs(marked[where]) > 10).all()
        assert (marked[~where] == poisoned[0][~where]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_moved_inputs_are_off_by_the_step(dtype: str) -> None:
    one = [Argument((1000,), dtype, False)]
    step = 2.0**-6
    still = make_inputs(one, Recipe("normal"), 0)[0].astype(np.float64)
    moved = make_inputs(one, Recipe("normal", variant="moved", step=step), 0)[0].astype(np.float64)
    assert np.abs(moved / still - 1).mean() == pytest.approx(step, rel=0.2)


@pytest.mark.parametrize(("dtype", "length"), [("float32", 4608), ("float32", 1), ("float64", 99)])
def test_sums_of_large_products_do_not_overflow(dtype: str, length: int) -> None:
    largest = 2.0 ** large_exponents(length, [dtype])[0]
    # six standard deviations, all of one sign
    assert length * (6 * largest) ** 2 < np.finfo(dtype).max
    assert largest > 1e6


def test_half_precision_has_no_room_for_large_inputs_of_long_sums() -> None:
    assert large_exponents(4608, ["float16"]) == []
