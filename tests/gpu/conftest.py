"""What tests on a GPU share; each skips, saying so, where what it needs is missing."""

from __future__ import annotations

import pytest

from spamm import _backends
from tests.familyseer.kernels.conftest import rows

__all__ = ["rows", "spamm_gpu"]


@pytest.fixture(scope="session")
def spamm_gpu() -> int:
    """The number of GPUs; skips where the CUDA backend cannot run, and says why."""
    try:
        _backends.load("cuda")
    except RuntimeError as error:
        pytest.skip(str(error))
    from spamm.cuda import _device

    return len(_device.devices())
