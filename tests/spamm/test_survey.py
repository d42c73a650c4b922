"""What a survey says of a tau is what a plan of that tau says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spamm import _products, _survey
from spamm._norms import block_norms
from spamm._plan import build_plan
from spamm._survey import survey
from spamm.generators import block_sparse, exponential_decay

Sizes = tuple[int, int, int]
SQUARE = (64, 64, 64), (8, 8, 8)


def check(norms_a: Any, norms_b: Any, shape: Sizes, block: Sizes, **given: Any) -> list[Any]:
    rows = survey(norms_a, norms_b, shape, block, **given).rows
    for row in rows:
        plan = build_plan(norms_a, norms_b, shape, block, row.tau)
        assert row.valid_ratio == plan.valid_ratio
        assert row.error_bound == plan.error_bound
        saved = 1 - plan.flops / plan.dense_flops if plan.dense_flops else 0.0
        assert row.flops_saved == pytest.approx(saved)
    return list(rows)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    points=st.integers(2, 9),
)
def test_every_row_is_that_of_a_plan(seed: int, shape: Sizes, block: Sizes, points: int) -> None:
    rng = np.random.default_rng(seed)
    (m, k, n), (bm, bk, bn) = shape, block
    a = rng.standard_normal((m, k)) * 10.0 ** rng.integers(-200, 100, (m, 1))
    b = rng.standard_normal((k, n)) * rng.integers(0, 2, (k, 1))
    rows = check(block_norms(a, bm, bk), block_norms(b, bk, bn), shape, block, points=points)
    assert rows[0].tau == 0.0
    assert len(rows) <= points


def test_many_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_products, "_PART", 50)
    norms = block_norms(exponential_decay(64, base=0.8, seed=0), 8, 8)
    check(norms, norms, *SQUARE)


def test_the_points_reach_from_all_to_a_hundredth() -> None:
    norms = block_norms(exponential_decay(1024, base=0.98, seed=0), 16, 16)
    shape, block = (1024, 1024, 1024), (16, 16, 16)
    rows = check(norms, norms, shape, block, points=10)
    ratios = [row.valid_ratio for row in rows]
    assert len(rows) == 10
    assert ratios[0] == 1.0
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(0.01, abs=1e-3)
    bounds = [row.error_bound for row in rows]
    assert bounds == sorted(bounds)


def test_a_sample_of_many_products_chooses_nearly_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    norms = block_norms(exponential_decay(1024, base=0.98, seed=0), 16, 16)
    shape, block = (1024, 1024, 1024), (16, 16, 16)
    whole = [row.valid_ratio for row in survey(norms, norms, shape, block).rows]
    monkeypatch.setattr(_survey, "_SAMPLE", 1 << 16)
    sampled = [row.valid_ratio for row in survey(norms, norms, shape, block).rows]
    assert sampled == pytest.approx(whole, abs=0.01)


def test_blocks_of_zeros_are_skipped_at_no_cost() -> None:
    a = block_sparse(64, block=8, density=0.25, seed=1)
    norms = block_norms(a, 8, 8)
    first, second, *_ = check(norms, norms, *SQUARE)
    assert (first.tau, first.valid_ratio) == (0.0, 1.0)
    assert second.valid_ratio < 0.2
    assert second.error_bound == 0.0


def test_blocks_that_must_be_kept_are_kept_at_every_tau() -> None:
    a = np.ones((64, 64))
    a[3, 3] = np.nan
    b = block_sparse(64, block=8, density=0.5)
    norms_a, norms_b = block_norms(a, 8, 8), block_norms(b, 8, 8)
    rows = check(norms_a, norms_b, *SQUARE, taus=[1e300])
    # one block of A, with all blocks of B's row, zeros included
    assert rows[0].valid_ratio == 8 / 8**3


def test_given_taus_are_sorted_and_said_once() -> None:
    norms = block_norms(np.ones((64, 64)), 8, 8)
    rows = check(norms, norms, *SQUARE, taus=[100.0, 1.0, 1.0, 0.0])
    assert [row.tau for row in rows] == [0.0, 1.0, 100.0]
    assert [row.valid_ratio for row in rows] == [1.0, 1.0, 0.0]


def test_matrices_of_zeros_and_without_elements_have_one_row() -> None:
    for shape in ((0, 3, 3), (3, 0, 3), (3, 3, 3)):
        m, k, n = shape
        norms_a, norms_b = block_norms(np.zeros((m, k)), 2, 2), block_norms(np.zeros((k, n)), 2, 2)
        rows = check(norms_a, norms_b, shape, (2, 2, 2))
        assert [row[:2] for row in rows] == [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"taus": [1.0, -1.0]}, "tau: "),
        ({"taus": [float("inf")]}, "tau: "),
        ({"points": 1}, "points: "),
        ({"points": 1000}, "points: "),
    ],
)
def test_bad_arguments_are_named(given: Any, named: str) -> None:
    norms = block_norms(np.ones((64, 64)), 8, 8)
    with pytest.raises(ValueError, match=f"^{named}expected"):
        survey(norms, norms, *SQUARE, **given)
    with pytest.raises(ValueError, match=r"^norms_a, norms_b: expected"):
        survey(norms, norms, (64, 64, 65), (8, 8, 8))
