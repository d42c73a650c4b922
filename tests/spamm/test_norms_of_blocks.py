from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spamm import block_norms
from spamm._norms import NORM_ERROR
from tests.spamm import definition

_DENORMAL = float(np.finfo(np.float64).smallest_subnormal)


@settings(max_examples=60, deadline=None)
@given(
    array=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.one_of(
            st.floats(-1, 1),
            st.sampled_from([0.0, 1e308, -1.7e308, 1e200, 1e-200, 3e-308, _DENORMAL]),
            st.sampled_from([float("inf"), float("nan")]),
        ),
    ),
    rows=st.integers(1, 10),
    cols=st.integers(1, 10),
)
def test_norms_are_accurate_at_every_magnitude(array: Any, rows: int, cols: int) -> None:
    found = block_norms(array, rows, cols)
    expected = definition.norms(array, rows, cols)
    assert found.shape == expected.shape
    finite = np.isfinite(found)
    assert (expected[~finite] > np.finfo(np.float64).max).all()
    difference = np.abs(found[finite] - expected[finite])
    limit = expected[finite] * NORM_ERROR[found.dtype] + 3 * _DENORMAL
    assert (difference <= limit).all()
    # what is denormal is rounded up, never to zero
    denormal = finite & (found < np.finfo(np.float64).tiny)
    assert (found[denormal] >= expected[denormal]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_type_is_summed_in_float64(dtype: str, bfloat16: Any) -> None:
    kind = bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    array = np.random.default_rng(0).standard_normal((70, 90)).astype(kind)
    found = block_norms(array, 16, 32)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, definition.norms(array, 16, 32).astype(float), rtol=NORM_ERROR[found.dtype]
    )


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda x: x[::-1, ::-1],
        lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
        lambda x: np.broadcast_to(x[:1], x.shape),
    ],
    ids=["fortran", "reversed", "strided", "broadcast"],
)
def test_layout_changes_nothing(layout: Callable[[Any], Any]) -> None:
    array = layout(np.random.default_rng(0).standard_normal((33, 50)).astype(np.float32))
    np.testing.assert_allclose(
        block_norms(array, 8, 16), block_norms(array.copy(), 8, 16), rtol=1e-14
    )


def test_wide_and_tall_matrices_are_cut_into_strips_without_a_trace() -> None:
    array = np.random.default_rng(0).standard_normal((40, 20_000)).astype(np.float32)
    np.testing.assert_allclose(
        block_norms(array, 40, 20_000), [[np.linalg.norm(array.astype(float))]], rtol=1e-12
    )
    np.testing.assert_allclose(block_norms(array.T, 16, 3), block_norms(array, 3, 16).T, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_only_the_block_with_a_value_that_is_not_finite_has_norm_inf(
    dtype: Any, value: float
) -> None:
    array = np.ones((6, 6), dtype=dtype)
    array[4, 1] = value
    assert np.isinf(block_norms(array, 3, 3)).tolist() == [[False, False], [True, False]]
