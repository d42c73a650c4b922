"""The backends by name; each is a module that is imported when it is first asked for.

A backend is a module with

- ``default_block(m, k, n, dtype) -> (bm, bk, bn)``, the block sizes where the caller names none,
- ``supports(block, dtype) -> str | None``, None where it can, else one line that says why not,
- ``norms(array, rows, cols)``, the Frobenius norm of each block of a matrix, with relative error
  at most ``spamm._norms.NORM_ERROR`` and +inf for blocks that hold a NaN or an infinity,
- ``multiply(a, b, plan, out) -> None`` for matrices of one type, in any layout; `out` is
  overwritten, its type is float32, float64 or that of `a`.

It may also have ``build_plan(norms_a, norms_b, shape, block, tau) -> Plan``, where it builds plans
faster than NumPy does. Importing a backend whose needs are not there raises ImportError.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spamm._plan import Plan

_MODULES = {"numpy": "spamm._reference", "cpu": "spamm.cpu", "cuda": "spamm.cuda"}
_NEEDS = {"numpy": "numpy", "cpu": "apache-tvm", "cuda": "pycuda and a CUDA driver"}


class Backend(Protocol):
    """What a backend's module offers; see this module's text."""

    def default_block(
        self, m: int, k: int, n: int, dtype: np.dtype[Any]
    ) -> tuple[int, int, int]: ...

    def supports(self, block: tuple[int, int, int], dtype: np.dtype[Any]) -> str | None: ...

    def norms(self, array: Any, rows: int, cols: int) -> Any: ...

    def multiply(self, a: Any, b: Any, plan: Plan, out: Any) -> None: ...


def names() -> tuple[str, ...]:
    """Names of the backends."""
    return tuple(_MODULES)


def load(name: str) -> Backend:
    """The backend of that name.

    Raises
    ------
    ValueError
        There is no backend of that name.
    RuntimeError
        Something that the backend needs is missing on this machine.
    """
    if name not in _MODULES:
        known = ", ".join(repr(each) for each in ("auto", *_MODULES))
        raise ValueError(f"backend: expected one of {known}, got {name!r}")
    try:
        module: Any = importlib.import_module(_MODULES[name])
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(
            f"backend: {name!r} needs {_NEEDS[name]}, which this machine lacks ({reason})"
        ) from error
    missing = [each for each in ("multiply", "norms") if not hasattr(module, each)]
    if missing:
        raise RuntimeError(
            f"backend: {name!r} needs {_NEEDS[name]}; this installation cannot run it"
        )
    backend: Backend = module
    return backend


def resolve(name: str, *arrays: npt.NDArray[Any]) -> str:
    """The name that "auto" stands for: where the arrays lie, else the fastest that is there."""
    if name != "auto":
        return name
    if any(hasattr(array, "__cuda_array_interface__") for array in arrays):
        return "cuda"
    return "cpu" if importlib.util.find_spec("tvm") is not None else "numpy"
