"""What tests of SpAMM on a GPU need; other tests here see to their own needs."""

from __future__ import annotations

import pytest

from spamm import _backends


@pytest.fixture(scope="session")
def spamm_gpu() -> int:
    """The number of GPUs; skips where the CUDA backend cannot run, and says why."""
    try:
        _backends.load("cuda")
    except RuntimeError as error:
        pytest.skip(str(error))
    from spamm.cuda import _device

    return len(_device.devices())
