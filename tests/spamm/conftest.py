"""Matrices that tests of SpAMM share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]


@pytest.fixture(scope="session")
def bfloat16() -> Any:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.fixture(scope="session")
def decaying() -> Callable[..., Array]:
    """Makes a matrix whose random elements decay exponentially away from the diagonal."""

    def make(m: int, n: int, dtype: Any = np.float64, rate: float = 0.8, seed: int = 0) -> Array:
        distance = np.abs(np.subtract.outer(np.arange(m), np.arange(n)))
        noise = np.random.default_rng(seed).uniform(-1, 1, size=(m, n))
        return (rate**distance * noise).astype(dtype)

    return make
