"""The bound against the exact error, computed with fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spamm import build_plan, tau_for_bound
from spamm._norms import block_norms
from spamm._plan import Plan, plan_from_lists
from tests.spamm import definition

_DENORMAL = float(np.finfo(np.float64).smallest_subnormal)
_ADVERSARIAL = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0]),
    st.floats(-2, 2, width=32),
    st.sampled_from([1e308, -1e308, 1e154, 1e-154, 1e-308, -1e-320, _DENORMAL]),
)


@st.composite
def _problems(draw: Any) -> tuple[Any, Any, tuple[int, int, int]]:
    m, k, n = draw(st.tuples(*[st.integers(1, 6)] * 3))
    elements = draw(st.sampled_from([_ADVERSARIAL, st.sampled_from([1.0]), st.floats(0, 1)]))
    a = draw(hnp.arrays(np.float64, (m, k), elements=elements))
    b = draw(hnp.arrays(np.float64, (k, n), elements=elements))
    return a, b, draw(st.tuples(*[st.integers(1, 3)] * 3))


def _plan(a: Any, b: Any, block: tuple[int, int, int], tau: float) -> Plan:
    bm, bk, bn = block
    norms_a, norms_b = block_norms(a, bm, bk), block_norms(b, bk, bn)
    return build_plan(norms_a, norms_b, (*a.shape, b.shape[1]), block, tau)


def _holds(a: Any, b: Any, plan: Plan) -> bool:
    if plan.error_bound == float("inf"):
        return True
    return definition.squared_error(a, b, plan) <= Fraction(plan.error_bound) ** 2


@settings(max_examples=150, deadline=None)
@given(
    problem=_problems(),
    tau=st.one_of(
        st.floats(0, 4), st.sampled_from([_DENORMAL, 1e-300, 1e-10, 1e10, 1e300, 1.7e308])
    ),
)
def test_the_exact_error_never_exceeds_the_bound(problem: Any, tau: float) -> None:
    a, b, block = problem
    assert _holds(a, b, _plan(a, b, block, tau))


@settings(max_examples=60, deadline=None)
@given(problem=_problems(), keep=st.integers(0, 2**32))
def test_the_bound_of_arbitrary_lists_holds_too(problem: Any, keep: int) -> None:
    a, b, block = problem
    every = _plan(a, b, block, 0.0)
    kept = np.random.default_rng(keep).random(every.ks.size) < 0.5
    counts = np.add.reduceat(kept, every.offsets[:-1])
    offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
    lists = (every.shape, block, 0.0, offsets, every.ks[kept])
    plan = plan_from_lists(every.norms_a, every.norms_b, *lists)
    assert _holds(a, b, plan)


def test_the_bound_is_met_by_parallel_rows_and_columns() -> None:
    # all skipped products point the same way, so that no part of the bound is slack
    a, b = np.full((2, 6), 0.1), np.full((6, 2), 0.1)
    plan = _plan(a, b, (2, 1, 2), 1.0)
    exact = definition.squared_error(a, b, plan)
    bound = Fraction(plan.error_bound) ** 2
    assert exact <= bound <= exact * (1 + Fraction(1, 10**10))


def test_what_is_exactly_zero_is_skipped_without_error() -> None:
    a = np.zeros((8, 8))
    a[:4, :4] = 1.0
    plan = _plan(a, a, (4, 4, 4), _DENORMAL)
    assert plan.valid_ratio == 1 / 8
    assert plan.error_bound == 0.0


def test_products_of_norms_that_underflow_still_count() -> None:
    a, b = np.full((1, 2), 1e-170), np.full((2, 1), 1e-170)
    plan = _plan(a, b, (1, 1, 1), 1e-300)
    assert plan.blocks_valid == 0
    assert plan.error_bound > 0
    assert _holds(a, b, plan)


def test_norms_that_are_denormal_still_count_in_full() -> None:
    # the norm is sqrt(2) of the smallest number, which would round to the number itself
    a, b = np.full((1, 2), _DENORMAL), np.full((2, 1), 1e300)
    plan = _plan(a, b, (1, 2, 1), 1.0)
    assert plan.blocks_valid == 0
    assert _holds(a, b, plan)


def test_a_bound_that_overflows_is_infinite() -> None:
    a, b = np.full((1, 4), 1e154), np.full((4, 1), 1e154)
    plan = _plan(a, b, (1, 1, 1), 1.7e308)
    assert plan.blocks_valid == 0
    assert plan.error_bound == float("inf")


def test_blocks_with_nan_or_infinity_are_never_skipped() -> None:
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    a[0, 1], b[2, 2] = np.nan, np.inf
    plan = _plan(a, b, (1, 1, 1), 1e300)
    kept = {(c // 3, int(k), c % 3) for c in range(9) for k in _list(plan, c)}
    assert kept == {(0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 2, 2), (1, 2, 2), (2, 2, 2)}
    assert plan.error_bound == 0.0


def _list(plan: Plan, cell: int) -> Any:
    return plan.ks[plan.offsets[cell] : plan.offsets[cell + 1]]


@pytest.mark.parametrize("share", [0.0, 1e-12, 1e-3, 0.5, 1.0, 2.0])
def test_tau_for_a_bound_gives_a_plan_within_it(share: float, decaying: Any) -> None:
    a, b = decaying(60, 50), decaying(50, 40, seed=1)
    everything = _plan(a, b, (4, 4, 4), 1e300)
    bound = share * everything.error_bound
    tau = tau_for_bound(everything.norms_a, everything.norms_b, bound)
    assert _plan(a, b, (4, 4, 4), tau).error_bound <= bound
    if share < 1:
        beyond = _plan(a, b, (4, 4, 4), float(np.nextafter(tau, np.inf)))
        assert beyond.error_bound > bound
