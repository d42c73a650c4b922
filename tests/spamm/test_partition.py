"""Work split over devices: least largest load, each block of C once, what a device must hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spamm import _backends
from spamm._norms import block_norms
from spamm._partition import Partition, imbalance, partition, split_evenly
from spamm._plan import Plan, build_plan
from spamm._survey import survey
from spamm.generators import algebraic_decay, block_sparse, exponential_decay

Sizes = tuple[int, int, int]
MATRICES = {
    "exponential": lambda n: exponential_decay(n, base=0.98),
    "exponential, drawn": lambda n: exponential_decay(n, base=0.9, seed=1),
    "algebraic": lambda n: algebraic_decay(n, exponent=2.0),
    "algebraic, drawn": lambda n: algebraic_decay(n, exponent=1.5, seed=1),
}


def plan_of(a: Any, b: Any, block: Sizes, tau: float) -> Plan:
    bm, bk, bn = block
    shape = (a.shape[0], a.shape[1], b.shape[1])
    return build_plan(block_norms(a, bm, bk), block_norms(b, bk, bn), shape, block, tau)


def drawn_plan(seed: int, shape: Sizes, block: Sizes, share: float = 0.4) -> tuple[Any, Any, Plan]:
    rng = np.random.default_rng(seed)
    m, k, n = shape
    # sizes that differ by orders of magnitude give uneven rows
    a = rng.standard_normal((m, k)) * rng.lognormal(sigma=2.0, size=(m, 1))
    b = rng.standard_normal((k, n)) * rng.lognormal(sigma=2.0, size=(k, 1))
    products = np.multiply.outer(block_norms(a, *block[:2]), block_norms(b, *block[1:]))
    return a, b, plan_of(a, b, block, float(np.quantile(products, 1.0 - share)))


def least_largest(work: list[int], parts: int) -> int:
    """By trying every way to cut."""
    sums = [0, *itertools.accumulate(work)]
    ways = itertools.combinations_with_replacement(range(len(work) + 1), parts - 1)
    return min(
        max(sums[end] - sums[start] for start, end in itertools.pairwise((0, *cuts, len(work))))
        for cuts in ways
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=0, max_size=9), st.integers(1, 4))
@example([4, 4, 4, 9, 1, 4, 0], 3)
@example([5, 4, 8, 6, 9, 1, 6], 4)
def test_no_other_way_to_cut_has_a_lesser_largest_part(work: list[int], parts: int) -> None:
    array = np.array(work, dtype=np.int64)
    cuts = split_evenly(array, parts)
    assert cuts[0] == 0
    assert cuts[-1] == len(work)
    assert np.all(np.diff(cuts) >= 0)
    loads = [int(array[start:end].sum()) for start, end in itertools.pairwise(cuts)]
    assert max(loads) == least_largest(work, parts)


def test_parts_are_near_to_equal_where_the_largest_allows_it() -> None:
    # greedy parts would be 10, 10, 10, 4: the same largest, the last device half idle
    work = np.array([10, *[2] * 12], dtype=np.int64)
    assert np.diff(split_evenly(work, 4)).tolist() == [1, 4, 4, 4]
    # the nearest cut is not always the one after
    work = np.array([5, 3, 0, 8, 1, 4], dtype=np.int64)
    cuts = split_evenly(work, 4)
    assert [int(work[start:end].sum()) for start, end in itertools.pairwise(cuts)] == [5, 3, 8, 5]


def test_large_work_is_counted_exactly() -> None:
    work = np.array([2**60, 2**60, 1], dtype=np.int64)
    assert split_evenly(work, 2).tolist() == [0, 1, 3]
    assert imbalance(work[:2]) == 0.0


@pytest.mark.parametrize("name", MATRICES)
def test_decay_matrices_balance_within_five_percent_on_up_to_sixteen_devices(name: str) -> None:
    n, block = 2048, 16
    a = MATRICES[name](n)
    norms, shape, blocks = block_norms(a, block, block), (n, n, n), (block, block, block)
    rows = survey(norms, norms, shape, blocks, points=40).rows
    uneven = 0
    for ratio in (0.05, 0.1, 0.3):
        tau = min(rows, key=lambda row: abs(row.valid_ratio - ratio)).tau
        plan = build_plan(norms, norms, shape, blocks, tau)
        assert plan.grid == (128, 128, 128)
        for devices in range(1, 17):
            found = partition(plan, devices)
            assert found.imbalance < 0.05
            assert found.imbalance <= found.rows_imbalance + 1e-12
            assert found.work.sum() == plan.blocks_valid
            uneven += found.rows_imbalance >= 0.05
    # whole rows alone would not do
    assert uneven


def test_whole_rows_are_kept_where_they_balance() -> None:
    a = block_sparse(256, block=16, density=1.0)
    plan = plan_of(a, a, (16, 16, 16), 0.0)
    found = partition(plan, 4)
    assert (found.imbalance, found.splits_rows) == (0.0, False)
    assert [piece.rows for share in found.shares for piece in share.pieces] == [
        (0, 4),
        (4, 8),
        (8, 12),
        (12, 16),
    ]
    assert not partition(plan, 3, tolerance=0.2).splits_rows
    assert partition(plan, 3).splits_rows


def covered(found: Partition, plan: Plan) -> Any:
    times = np.zeros((plan.grid[0], plan.grid[2]), dtype=int)
    for share in found.shares:
        for piece in share.pieces:
            times[slice(*piece.rows), slice(*piece.columns)] += 1
    return times


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(1, 20)),
    block=st.tuples(*[st.integers(1, 6)] * 3),
    devices=st.integers(1, 6),
    tolerance=st.sampled_from([0.0, 0.1, 10.0]),
)
def test_devices_together_compute_the_whole_product_from_what_they_need(
    seed: int, shape: Sizes, block: Sizes, devices: int, tolerance: float
) -> None:
    m, k, n = shape
    if k:
        a, b, plan = drawn_plan(seed, shape, block)
    else:
        a, b = np.zeros((m, k)), np.zeros((k, n))
        plan = plan_of(a, b, block, 1.0)
    multiply = _backends.load("numpy").multiply
    whole, assembled = np.full((m, n), np.nan), np.full((m, n), np.nan)
    multiply(a, b, plan, whole)
    found = partition(plan, devices, tolerance=tolerance)
    assert np.all(covered(found, plan) == 1)
    for share in found.shares:
        # what a device is not said to need, it has not
        held_a, held_b = np.full((m, k), np.nan), np.full((k, n), np.nan)
        copy_blocks(a, held_a, share.needed_a, block[0], block[1])
        copy_blocks(b, held_b, share.needed_b, block[1], block[2])
        for piece in share.pieces:
            rows, columns = piece.row_slice, piece.column_slice
            target = assembled[rows, columns]
            multiply(held_a[rows], held_b[:, columns], piece.plan, target)
        moved = share.bytes_moved(8)
        assert moved.a == 8 * np.count_nonzero(~np.isnan(held_a))
        assert moved.b == 8 * np.count_nonzero(~np.isnan(held_b))
        first, end = share.rows_of_b
        assert np.isnan(held_b[: first * block[1]]).all()
        assert np.isnan(held_b[end * block[1] :]).all()
    assert sum(share.bytes_moved(8, 4).c for share in found.shares) == 4 * m * n
    np.testing.assert_allclose(assembled, whole, rtol=1e-12)


def copy_blocks(source: Any, target: Any, blocks: Any, height: int, width: int) -> None:
    for i, j in np.argwhere(blocks):
        at = np.s_[i * height : (i + 1) * height, j * width : (j + 1) * width]
        target[at] = source[at]


def test_a_range_is_at_most_the_end_of_a_row_whole_rows_and_a_beginning() -> None:
    _, _, plan = drawn_plan(3, (40, 24, 36), (4, 4, 4))
    found = partition(plan, 3, tolerance=0.0)
    assert found.splits_rows
    for share in found.shares:
        assert len(share.pieces) <= 3
        assert sum(piece.plan.blocks_valid for piece in share.pieces) == share.work
        for piece in share.pieces:
            whole = piece.columns == (0, plan.grid[2])
            assert whole or piece.rows[1] - piece.rows[0] == 1
            assert piece.plan.ks.base is not None


def test_blocks_of_b_are_counted_by_the_devices_that_read_them() -> None:
    a = np.kron(np.eye(4), np.ones((4, 4)))
    found = partition(plan_of(a, a, (4, 4, 4), 1.0), 2)
    assert found.readers_of_b.tolist() == np.eye(4, dtype=int).tolist()
    assert [share.rows_of_b for share in found.shares] == [(0, 2), (2, 4)]
    dense = partition(plan_of(a, a, (4, 4, 4), 0.0), 2)
    assert np.all(dense.readers_of_b == 2)


def test_nothing_kept_and_more_devices_than_blocks() -> None:
    a = np.ones((6, 6))
    nothing = partition(plan_of(a, a, (2, 2, 2), 1e6), 3)
    assert nothing.imbalance == 0.0
    assert [share.pieces[0].rows for share in nothing.shares] == [(0, 1), (1, 2), (2, 3)]
    assert [share.rows_of_b for share in nothing.shares] == [(0, 0)] * 3
    many = partition(plan_of(a, a, (3, 3, 3), 0.0), 7)
    assert sorted(len(share.pieces) for share in many.shares) == [0, 0, 0, 1, 1, 1, 1]
    assert many.imbalance == pytest.approx(7 / 4 - 1)


@pytest.mark.parametrize(
    ("devices", "tolerance", "error", "named"),
    [
        (0, 0.1, ValueError, "devices: expected at least 1, got 0"),
        (1.5, 0.1, TypeError, "devices: expected an integer, got 1.5"),
        (2, -0.1, ValueError, "tolerance: expected"),
        (2, float("nan"), ValueError, "tolerance: expected"),
    ],
)
def test_bad_arguments_are_named(
    devices: Any, tolerance: float, error: type[Exception], named: str
) -> None:
    plan = plan_of(np.ones((2, 2)), np.ones((2, 2)), (1, 1, 1), 0.0)
    with pytest.raises(error, match=f"^{named}"):
        partition(plan, devices, tolerance=tolerance)
