"""SpAMM on NVIDIA GPUs: kernels generated as CUDA C++ text, and what compiles and runs them.

This is the backend's module, see `spamm._backends`. Importing it needs NumPy alone; `require` says
what is missing to run anything.
"""

from __future__ import annotations

from spamm.cuda._device import devices as _devices
from spamm.cuda._interop import DeviceArray
from spamm.cuda._runtime import (
    default_block,
    matmul,
    multiply,
    multiply_arrays,
    multiply_tf32,
    norms,
    plan,
    refresh,
    supports,
)

__all__ = [
    "DeviceArray",
    "default_block",
    "matmul",
    "multiply",
    "multiply_arrays",
    "multiply_tf32",
    "norms",
    "plan",
    "refresh",
    "require",
    "supports",
]


def require() -> None:
    """ImportError where PyCUDA, the driver or a GPU is missing."""
    _devices()
