"""A guaranteed relative error, against products in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spamm
from spamm import _matmul
from spamm._guarantee import certain_norm, probable_norm
from spamm._norms import block_norms


def _relative_error(a: Any, b: Any, c: Any) -> float:
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return float(np.linalg.norm(c - exact) / np.linalg.norm(exact))


def _cancelling(n: int) -> tuple[Any, Any]:
    """||A B|| is far below ||A|| ||B||: rows of A are nearly orthogonal to columns of B."""
    rng = np.random.default_rng(n)
    x = np.linalg.qr(rng.standard_normal((n, n)))[0]
    half = n // 2
    a = x[:, :half] @ rng.standard_normal((half, n))
    b = np.linalg.qr(a.T)[0]
    return a, b[:, half:] + 1e-6 * rng.standard_normal((n, n - half))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["decay", "random", "rank one", "cancelling", "rows", "huge", "tiny"]),
    n=st.integers(4, 40),
    block=st.integers(1, 9),
    error=st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.99]),
)
def test_the_relative_error_is_never_exceeded(kind: str, n: int, block: int, error: float) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((n, n)), rng.standard_normal((n, n))
    if kind == "decay":
        a *= 0.5 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    elif kind == "rank one":
        a, b = np.ones((n, 1)) * a[:1], b[:, :1] * np.ones((1, n))
    elif kind == "cancelling":
        a, b = _cancelling(n)
    elif kind == "rows":
        a *= np.logspace(0, -30, n)[:, None]
    a *= {"huge": 1e150, "tiny": 1e-150}.get(kind, 1.0)
    c = spamm.matmul(a, b, max_rel_error=error, block=block, backend="numpy")
    scale = np.linalg.norm(a) * np.linalg.norm(b) / np.linalg.norm(a @ b)
    assert _relative_error(a, b, c) <= error + 1e-14 * n * scale


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_lower_precision_keeps_the_guarantee_up_to_rounding(
    dtype: str, decaying: Any, bfloat16: Any
) -> None:
    kind = bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    a, b = decaying(90, 70, kind), decaying(70, 110, kind, seed=1)
    out = np.empty((90, 110))
    c = spamm.matmul(a, b, max_rel_error=1e-2, block=8, backend="numpy", out=out)
    assert 1e-5 < _relative_error(a, b, c) <= 1e-2
    plain = spamm.matmul(a, b, max_rel_error=1e-2, block=8, backend="numpy")
    assert plain.dtype == kind
    np.testing.assert_array_equal(plain, c.astype(kind))


def test_tf32_keeps_the_guarantee_up_to_its_rounding(decaying: Any) -> None:
    a, b = decaying(90, 70, np.float32), decaying(70, 110, np.float32, seed=1)
    c = spamm.matmul(a, b, max_rel_error=1e-2, block=8, backend="numpy", precision="tf32", out=None)
    assert 1e-5 < _relative_error(a, b, c) <= 1e-2 + 2e-3


def test_decaying_matrices_are_not_multiplied_whole_or_twice(
    decaying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = decaying(256, 256), decaying(256, 256, seed=1)
    plans = []
    multiply = _matmul._Work.multiply

    def counted(self: Any, index: Any, plan: Any, out: Any) -> None:
        plans.append(plan)
        multiply(self, index, plan, out)

    monkeypatch.setattr(_matmul._Work, "multiply", counted)
    spamm.matmul(a, b, max_rel_error=1e-3, block=8, backend="numpy")
    (plan,) = plans
    assert plan.valid_ratio < 0.25
    # most of what is allowed is used
    exact = np.linalg.norm(a @ b)
    assert 0.5e-3 * exact <= plan.error_bound <= 1e-3 * exact


def test_an_estimate_that_is_too_high_is_found_out(
    decaying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = decaying(128, 128), decaying(128, 128, seed=1)
    for too_high in (3.0, 1e6, float("inf")):
        monkeypatch.setattr(
            _matmul, "probable_norm", lambda *_, f=too_high: f * np.linalg.norm(a @ b)
        )
        c = spamm.matmul(a, b, max_rel_error=1e-3, block=8, backend="numpy")
        assert _relative_error(a, b, c) <= 1e-3


def test_a_product_that_is_zero_is_zero() -> None:
    a, b = np.zeros((8, 8)), np.zeros((8, 8))
    a[:, :4], b[4:] = 1.0, 1.0
    c = spamm.matmul(a, b, max_rel_error=1e-3, block=4, backend="numpy")
    assert (c == 0).all()


def test_values_that_are_not_finite_are_multiplied_without_skipping(decaying: Any) -> None:
    a, b = decaying(64, 64), decaying(64, 64, seed=1)
    a[3, 5] = np.nan
    plan = spamm.plan(a, b, max_rel_error=1e-2, block=8, backend="numpy")
    assert plan.valid_ratio == 1.0
    c = spamm.matmul(a, b, max_rel_error=1e-2, block=8, backend="numpy")
    np.testing.assert_allclose(c, a @ b, atol=1e-13)


def test_every_product_of_a_batch_keeps_the_guarantee(decaying: Any) -> None:
    # held together, the second would be lost in the error of the first
    a = np.stack([decaying(40, 40), 1e-6 * decaying(40, 40, seed=1)])
    b = decaying(40, 40, seed=2)
    c = spamm.matmul(a, b, max_rel_error=1e-2, block=4, backend="numpy")
    for index in range(2):
        assert _relative_error(a[index], b, c[index]) <= 1e-2


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_estimate_is_near_and_rarely_above(dtype: Any, scale: float) -> None:
    above = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = (scale * rng.standard_normal((60, 50))).astype(dtype)
        b = rng.standard_normal((50, 40)).astype(dtype)
        exact = np.linalg.norm(a.astype(float) @ b.astype(float))
        estimate = probable_norm(a, b, block_norms(a, 8, 8), block_norms(b, 8, 8))
        assert 0.5 <= estimate / exact <= 1.2
        above += estimate > exact
    assert above <= 5


def test_the_proved_norm_is_below_the_exact_one_whatever_was_rounded(decaying: Any) -> None:
    a, b = decaying(90, 70, np.float32), decaying(70, 110, np.float32, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.3, block=8, backend="numpy")
    exact = np.linalg.norm(a.astype(float) @ b.astype(float))
    for precision, share in ((None, 0.9), ("tf32", 0.8)):
        c = spamm.multiply(plan, a, b, backend="numpy", precision=precision)
        least = certain_norm(c, plan, a.dtype, precision)
        assert share * exact <= least + plan.error_bound
        assert least < exact
