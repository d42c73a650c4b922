from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spamm
from spamm import build_plan
from spamm._norms import block_norms
from tests.spamm import definition

_SIZES = st.integers(0, 23)
_BLOCKS = st.integers(1, 9)
# norms that meet tau exactly, lie beside it, overflow or underflow when multiplied, or are inf
_NORMS = st.sampled_from(
    [0.0, 5e-324, 1e-170, 0.5, 1.0, float(np.nextafter(1.0, 2)), 3.0, 1e170, float("inf")]
)


def _norms(data: Any, rows: int, cols: int) -> Any:
    values = data.draw(st.lists(_NORMS, min_size=rows * cols, max_size=rows * cols))
    return np.array(values, dtype=np.float64).reshape(rows, cols)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), grid=st.tuples(*[st.integers(0, 5)] * 3), tau=_NORMS.filter(np.isfinite))
def test_keeps_exactly_the_products_that_are_not_below_tau(
    data: Any, grid: tuple[int, int, int], tau: float
) -> None:
    mb, kb, nb = grid
    norms_a, norms_b = _norms(data, mb, kb), _norms(data, kb, nb)
    plan = build_plan(norms_a, norms_b, grid, (1, 1, 1), tau)
    assert plan.grid == grid
    assert plan.offsets.dtype == np.int64
    assert plan.ks.dtype == np.int32
    assert plan.offsets.shape == (mb * nb + 1,)
    for i, j, ks in definition.kept(norms_a, norms_b, tau):
        cell = i * nb + j
        assert plan.ks[plan.offsets[cell] : plan.offsets[cell + 1]].tolist() == ks


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(_SIZES, _SIZES, _SIZES), block=st.tuples(_BLOCKS, _BLOCKS, _BLOCKS))
def test_counts_what_it_keeps(shape: tuple[int, int, int], block: tuple[int, int, int]) -> None:
    (m, k, n), (bm, bk, bn) = shape, block
    rng = np.random.default_rng(m * 10_000 + k * 100 + n)
    norms_a = block_norms(rng.standard_normal((m, k)), bm, bk)
    norms_b = block_norms(rng.standard_normal((k, n)), bk, bn)
    plan = build_plan(norms_a, norms_b, shape, block, 3.0)
    flops, per_row = 0, [0] * plan.grid[0]
    for i, j, ks in definition.kept(norms_a, norms_b, 3.0):
        height, width = min(bm, m - i * bm), min(bn, n - j * bn)
        flops += sum(2 * height * width * min(bk, k - each * bk) for each in ks)
        per_row[i] += len(ks)
    assert plan.flops == flops
    assert plan.work_per_row().tolist() == per_row
    assert plan.blocks_valid == sum(per_row)
    total = plan.grid[0] * plan.grid[1] * plan.grid[2]
    assert plan.blocks_total == total
    assert plan.valid_ratio == (sum(per_row) / total if total else 1.0)
    assert plan.dense_flops == 2 * m * k * n


def test_tau_of_zero_keeps_everything_with_no_error() -> None:
    norms = np.zeros((4, 4))
    plan = build_plan(norms, norms, (4, 4, 4), (1, 1, 1), 0.0)
    assert plan.valid_ratio == 1.0
    assert plan.flops == plan.dense_flops
    assert plan.error_bound == 0.0


def test_large_grids_are_planned_in_parts() -> None:
    # one row of cells is larger than a part, so rows are cut too
    rng = np.random.default_rng(0)
    norms_a, norms_b = rng.random((3, 700)), rng.random((700, 400))
    plan = build_plan(norms_a, norms_b, (3, 700, 400), (1, 1, 1), 0.9)
    products = norms_a[:, None, :] * norms_b.T
    assert plan.ks.tolist() == np.nonzero(products >= 0.9)[2].tolist()
    expected = np.linalg.norm(np.where(products < 0.9, products, 0).sum(axis=-1))
    assert expected <= plan.error_bound <= expected * (1 + 1e-10)


def test_device_norms_in_single_precision_widen_the_bound() -> None:
    norms = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    single = build_plan(norms, norms, (6, 6, 6), (1, 1, 1), 0.5)
    double = build_plan(norms.astype(float), norms.astype(float), (6, 6, 6), (1, 1, 1), 0.5)
    assert double.error_bound < single.error_bound < double.error_bound * 1.001


@pytest.mark.parametrize("tau", [-1.0, float("nan"), float("inf"), "much", None])
def test_a_tau_that_is_no_finite_number_is_refused(tau: Any) -> None:
    with pytest.raises(ValueError, match=r"^tau: expected a finite number of at least 0, got"):
        build_plan(np.ones((1, 1)), np.ones((1, 1)), (1, 1, 1), (1, 1, 1), tau)


@pytest.mark.parametrize(
    ("norms", "message"),
    [
        (np.ones((2, 3)), "expected shapes"),
        (np.ones(2), "expected a float32 or float64 matrix"),
        (np.ones((2, 2), dtype=int), "expected a float32 or float64 matrix"),
        (np.full((2, 2), -1.0), "expected norms of at least 0"),
        (np.full((2, 2), np.nan), "expected norms of at least 0"),
    ],
)
def test_norms_of_another_grid_or_kind_are_refused(norms: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^norms_a.*{message}"):
        build_plan(norms, np.ones((2, 2)), (2, 2, 2), (1, 1, 1), 0.0)


def test_refresh_keeps_the_lists_while_values_change_little(decaying: Any) -> None:
    a, b = decaying(96, 80), decaying(80, 64, seed=1)
    old = spamm.plan(a, b, valid_ratio=0.3, block=8, backend="numpy")
    new = old.refresh(a * 1.001, b, backend="numpy")
    assert new.reused
    assert new.ks is old.ks
    assert new.offsets is old.offsets
    fresh = spamm.plan(a * 1.001, b, tau=old.tau, block=8, backend="numpy")
    assert old.error_bound < new.error_bound <= 1.1 * fresh.error_bound
    np.testing.assert_array_equal(new.norms_a, fresh.norms_a)


@pytest.mark.parametrize("change", ["grown", "shrunk", "nan"])
def test_refresh_makes_new_lists_where_values_change_much(decaying: Any, change: str) -> None:
    a, b = decaying(96, 80), decaying(80, 64, seed=1)
    old = spamm.plan(a, b, valid_ratio=0.3, block=8, backend="numpy")
    a = a * {"grown": 4.0, "shrunk": 0.25, "nan": 1.0}[change]
    if change == "nan":
        a[0, -1] = np.nan
    new = old.refresh(a, b, backend="numpy")
    fresh = spamm.plan(a, b, tau=old.tau, block=8, backend="numpy")
    assert not new.reused
    np.testing.assert_array_equal(new.ks, fresh.ks)
    assert new.error_bound == fresh.error_bound


def test_refresh_does_not_drift_over_many_small_changes(decaying: Any) -> None:
    a, b = decaying(96, 80), decaying(80, 64, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.3, block=8, backend="numpy")
    tau, reused = plan.tau, []
    for _ in range(30):
        a = a * 1.03
        plan = plan.refresh(a, b, backend="numpy")
        reused.append(plan.reused)
        fresh = spamm.plan(a, b, tau=tau, block=8, backend="numpy")
        assert plan.error_bound <= 1.1 * fresh.error_bound
        assert plan.blocks_valid <= 1.1 * fresh.blocks_valid
    assert any(reused)
    assert not all(reused)


def test_refresh_refuses_another_shape_and_batches() -> None:
    plan = spamm.plan(np.ones((4, 5)), np.ones((5, 6)), tau=0.0, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: it is for matrices \(4, 5\) and \(5, 6\), got"):
        plan.refresh(np.ones((5, 5)), np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"^a, b: expected one matrix each, got a batch \(2,\)"):
        plan.refresh(np.ones((2, 4, 5)), np.ones((5, 6)))
