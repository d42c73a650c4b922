from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spamm
from spamm import BatchPlan, Plan
from spamm._arrays import rounded_to_tf32
from tests.spamm import definition

_SIZES = st.integers(0, 40)
_BLOCKS = st.integers(1, 17)
_TYPES = ["float16", "bfloat16", "float32", "float64"]
# relative to ||A|| ||B||: 40 terms, and the rounding of a result in half precision
_ROUNDING = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 5e-6, "float64": 1e-14}


def _dtype(name: str) -> Any:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def _random(rng: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    scale = 10 ** rng.uniform(-2, 1, size=shape)
    return (rng.standard_normal(shape) * scale).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(_SIZES, _SIZES, _SIZES),
    block=st.tuples(_BLOCKS, _BLOCKS, _BLOCKS),
    name=st.sampled_from(_TYPES),
    tau=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e9]),
)
def test_equals_the_definition(
    sizes: tuple[int, int, int], block: tuple[int, int, int], name: str, tau: float
) -> None:
    m, k, n = sizes
    rng = np.random.default_rng(m + 100 * k + 10_000 * n)
    a, b = _random(rng, (m, k), _dtype(name)), _random(rng, (k, n), _dtype(name))
    c = spamm.matmul(a, b, tau=tau, block=block, backend="numpy")
    assert c.shape == (m, n)
    assert c.dtype == a.dtype
    plan = spamm.plan(a, b, tau=tau, block=block, backend="numpy")
    scale = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
    expected = definition.product(a, b, plan)
    assert np.abs(c.astype(float) - expected).max(initial=0) <= _ROUNDING[name] * scale
    by_definition = definition.kept(
        definition.norms(a, *block[:2]).astype(float),
        definition.norms(b, *block[1:]).astype(float),
        tau,
    )
    assert plan.ks.tolist() == [each for _, _, ks in by_definition for each in ks]


@pytest.mark.parametrize("name", _TYPES)
def test_tau_of_zero_is_the_dense_product(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = _random(rng, (50, 70), _dtype(name)), _random(rng, (70, 30), _dtype(name))
    c = spamm.matmul(a, b, tau=0, block=16, backend="numpy")
    dense = a.astype(float) @ b.astype(float)
    scale = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
    assert np.abs(c.astype(float) - dense).max() <= _ROUNDING[name] * scale


def test_half_precision_is_added_up_in_single() -> None:
    a, b = np.ones((1, 4096), dtype=np.float16), np.ones((4096, 1), dtype=np.float16)
    # 2049 has no float16, so a sum in float16 would stay at 2048
    assert spamm.matmul(a, b, tau=0, backend="numpy")[0, 0] == 4096
    out = np.empty((1, 1), dtype=np.float32)
    spamm.matmul(a[:, :2049], b[:2049], tau=0, backend="numpy", out=out)
    assert out[0, 0] == 2049


def test_nan_and_infinity_spread_as_far_as_in_the_dense_product() -> None:
    a, b = np.ones((8, 8)), np.full((8, 8), 1e-9)
    a[5, 0], b[7, 6] = np.nan, np.inf
    c = spamm.matmul(a, b, tau=1.0, block=4, backend="numpy")
    dense = a @ b
    np.testing.assert_array_equal(np.isnan(c), np.isnan(dense))
    np.testing.assert_array_equal(np.isinf(c), np.isinf(dense))
    # blocks that neither touches are skipped as ever
    assert (c[:4, :4] == 0).all()


_LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout_a", _LAYOUTS)
@pytest.mark.parametrize("layout_b", _LAYOUTS)
def test_layout_changes_nothing(layout_a: str, layout_b: str, decaying: Any) -> None:
    a, b = decaying(33, 41), decaying(41, 29, seed=1)
    expected = spamm.matmul(a, b, tau=1e-2, block=8, backend="numpy")
    c = spamm.matmul(
        _LAYOUTS[layout_a](a), _LAYOUTS[layout_b](b), tau=1e-2, block=8, backend="numpy"
    )
    np.testing.assert_allclose(c, expected, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "Fortran", "reversed", "strided"])
def test_the_result_is_written_where_it_is_asked_for(
    layout: str, dtype: str, decaying: Any
) -> None:
    a, b = decaying(33, 41, np.float32), decaying(41, 29, np.float32, seed=1)
    out = _LAYOUTS[layout](np.full((33, 29), 7, dtype=dtype))
    c = spamm.matmul(a, b, tau=1e-2, block=8, backend="numpy", out=out)
    assert c is out
    expected = spamm.matmul(a, b, tau=1e-2, block=8, backend="numpy")
    np.testing.assert_array_equal(out, expected.astype(dtype))


@pytest.mark.parametrize(
    ("batch_a", "batch_b"), [((3,), ()), ((), (2,)), ((2, 1), (3,)), ((0,), ()), ((1,), (1,))]
)
def test_batches_broadcast_as_numpy_does(
    batch_a: tuple[int, ...], batch_b: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((*batch_a, 7, 9)), rng.random((*batch_b, 9, 5))
    c = spamm.matmul(a, b, tau=0, block=4, backend="numpy")
    np.testing.assert_allclose(c, a @ b, atol=1e-13)
    plan = spamm.plan(a, b, valid_ratio=0.5, block=4, backend="numpy")
    assert isinstance(plan, BatchPlan)
    again = spamm.multiply(plan, a, b, backend="numpy")
    for index in np.ndindex(plan.batch):
        one_a = np.broadcast_to(a, (*plan.batch, 7, 9))[index]
        one_b = np.broadcast_to(b, (*plan.batch, 9, 5))[index]
        alone = spamm.plan(one_a, one_b, valid_ratio=0.5, block=4, backend="numpy")
        assert plan[index].tau == alone.tau
        np.testing.assert_array_equal(
            again[index], spamm.multiply(alone, one_a, one_b, backend="numpy")
        )


def test_a_batch_adds_up_its_elements(decaying: Any) -> None:
    a = np.stack([decaying(24, 16), 5 * decaying(24, 16, seed=1)])
    b = decaying(16, 20, seed=2)
    plan = spamm.plan(a, b, tau=0.1, block=4, backend="numpy")
    assert isinstance(plan, BatchPlan)
    one, two = plan.plans
    assert plan.blocks_valid == one.blocks_valid + two.blocks_valid
    assert plan.valid_ratio == pytest.approx((one.valid_ratio + two.valid_ratio) / 2)
    assert plan.flops == one.flops + two.flops
    assert plan.dense_flops == a[0].size * 20 * 2 * 2
    assert plan.error_bound == pytest.approx(np.hypot(one.error_bound, two.error_bound))
    refreshed = plan.refresh(a * 1.0001, b, backend="numpy")
    assert refreshed.batch == (2,)
    assert all(each.reused for each in refreshed.plans)
    with pytest.raises(ValueError, match=r"^plan: it is for batch dimensions \(2,\), got \(\)$"):
        plan.refresh(a[0], b, backend="numpy")


def test_a_plan_is_used_again_for_other_values(decaying: Any) -> None:
    a, b = decaying(40, 40), decaying(40, 40, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.4, block=8, backend="numpy")
    assert isinstance(plan, Plan)
    c = spamm.multiply(plan, b, a, backend="numpy")
    np.testing.assert_allclose(c, definition.product(b, a, plan), atol=1e-13)


class _Lent:
    """An array of another library in the host's memory, as DLPack hands it over."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_arrays_of_other_libraries_are_read_in_place(decaying: Any) -> None:
    a, b = decaying(30, 20), decaying(20, 10, seed=1)
    c = spamm.matmul(_Lent(a), _Lent(b), tau=1e-2, backend="numpy")
    np.testing.assert_array_equal(c, spamm.matmul(a, b, tau=1e-2, backend="numpy"))
    with pytest.raises(ValueError, match=r"^a: its memory cannot be read by NumPy"):
        spamm.matmul(_Lent(a.astype(a.dtype.newbyteorder())), b, tau=0.0, backend="numpy")


def test_tf32_rounds_operands_to_ten_bits() -> None:
    ulp = 2.0**-10
    a = np.array([[1 + ulp / 2, 1 + ulp / 2 - 2.0**-23, 1 + 1.5 * ulp, -1 - ulp / 2, 2.0**-140]])
    rounded = rounded_to_tf32(a.astype(np.float32))
    assert rounded.tolist()[0][:4] == [1 + ulp, 1.0, 1 + 2 * ulp, -1 - ulp]
    special = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(rounded_to_tf32(special), special)
    b = np.eye(5, dtype=np.float32)
    c = spamm.matmul(
        a.astype(np.float32).T[:, ::-1], b[:1], tau=0, precision="tf32", backend="numpy"
    )
    np.testing.assert_array_equal(c[:, 0], rounded[0])


def test_automatic_choice_gives_the_same_as_the_reference(decaying: Any) -> None:
    a, b = decaying(100, 90, np.float32), decaying(90, 80, np.float32, seed=1)
    c = spamm.matmul(a, b, tau=1e-3)
    assert np.abs(c - a @ b).max() <= 0.1
    reference = spamm.matmul(a, b, tau=1e-3, block=spamm.plan(a, b, tau=1e-3).block)
    np.testing.assert_allclose(c, reference, atol=1e-5)
