"""The backends by name; each is a module that is imported when it is first asked for.

A backend is a module with

- ``default_block(m, k, n, dtype) -> (bm, bk, bn)``, the block sizes where the caller names none,
- ``supports(block, dtype) -> str | None``, None where it can, else one line that says why not,
- ``norms(array, rows, cols)``, the Frobenius norm of each block of a matrix, with relative error
  at most ``spamm._norms.NORM_ERROR`` and +inf for blocks that hold a NaN or an infinity,
- ``multiply(a, b, plan, out) -> None`` for matrices of one type, in any layout; `out` is
  overwritten, its type is float32, float64 or that of `a`.

It may also have

- ``build_plan(norms_a, norms_b, shape, block, tau) -> Plan``, where it builds plans faster than
  NumPy does,
- ``multiply_tf32(a, b, plan, out)``, where its float32 products can round to TF32 by themselves;
  else the operands are rounded before,
- ``matmul``, ``plan``, ``multiply_arrays`` and ``refresh(plan, a, b)`` for arrays that lie on a
  device, with the arguments of `spamm.matmul`, `spamm.plan`, `spamm.multiply` and `Plan.refresh`
  but `backend`; also used for arrays of the host when the backend is asked for by its name,
- ``require()``, for what can be missing although the module can be imported.

Importing a backend whose needs are not there, or its ``require``, raises ImportError.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from spamm._plan import Plan

Sizes = tuple[int, int, int]

_MODULES = {"numpy": "spamm._reference", "cpu": "spamm.cpu", "cuda": "spamm.cuda"}
# What "auto" tries for arrays in the host's memory, fastest first
_AUTO = ("cpu", "numpy")
_DEVICES = "cuda"
# DLPack's numbers of a GPU's own memory, and of memory that it shares with the host
_CUDA_KINDS = (2, 13)
_NEEDS = {"numpy": "numpy", "cpu": "apache-tvm", "cuda": "pycuda and a CUDA driver"}


class Backend(Protocol):
    """What a backend's module offers; see this module's text."""

    def default_block(
        self, m: int, k: int, n: int, dtype: np.dtype[Any]
    ) -> tuple[int, int, int]: ...

    def supports(self, block: tuple[int, int, int], dtype: np.dtype[Any]) -> str | None: ...

    def norms(self, array: Any, rows: int, cols: int) -> Any: ...

    def multiply(self, a: Any, b: Any, plan: Plan, out: Any) -> None: ...


class Choice(NamedTuple):
    """A backend and the block sizes to use with it."""

    module: Backend
    block: Sizes

    @property
    def norms(self) -> Any:
        """The backend's `norms`."""
        return self.module.norms


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
        if hasattr(module, "require"):
            module.require()
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(
            f"backend: {name!r} needs {_NEEDS[name]}, which this machine lacks ({reason})"
        ) from error
    backend: Backend = module
    return backend


def resolve(name: str, block: Any, dtype: np.dtype[Any], shape: Sizes = (0, 0, 0)) -> Choice:
    """The backend that is asked for, or with "auto" the fastest that is there and can do it.

    Parameters
    ----------
    block
        Block sizes as the caller gave them; None for the backend's own.
    shape
        (m, k, n), for the backend's own block sizes.

    Raises
    ------
    ValueError
        There is no such backend, or it cannot do these block sizes or this type.
    RuntimeError
        It needs what is not there.
    """
    sizes = None if block is None else checked_block(block)
    for candidate in _AUTO if name == "auto" else (name,):
        try:
            module = load(candidate)
        except RuntimeError:
            if name != "auto":
                raise
            continue
        chosen = sizes or module.default_block(*shape, dtype)
        refusal = module.supports(chosen, dtype)
        if refusal is None:
            return Choice(module, chosen)
        if name != "auto":
            raise ValueError(f"backend: {name!r} cannot do this: {refusal}")
    raise RuntimeError(f"backend: none can multiply {dtype} in blocks {sizes}")


def for_devices(name: str, a: Any, b: Any, devices: Any = None) -> Any:
    """The backend that takes the arrays as they are, or None where `resolve` has the choice.

    Parameters
    ----------
    name
        As the caller asked for; "auto" stands for "cuda" where the work is a device's.
    a, b
        The operands.
    devices
        Numbers of GPUs, or None where none were named.

    Raises
    ------
    ValueError
        The arrays are on a device, or devices are named, and another backend is asked for.
    RuntimeError
        It needs what is not there.
    """
    if not (name == _DEVICES or devices is not None or on_device(a, b)):
        return None
    if name not in ("auto", _DEVICES):
        load(name)
        what = "arrays on a device expect" if devices is None else "devices expect"
        raise ValueError(f"backend: {what} 'auto' or {_DEVICES!r}, got {name!r}")
    return load(_DEVICES)


def on_device(*arrays: Any) -> bool:
    """Whether any array lies on a CUDA device."""
    return any(_on_device(each) for each in arrays)


def _on_device(array: Any) -> bool:
    where = getattr(array, "__dlpack_device__", None)
    if where is not None:
        return int(where()[0]) in _CUDA_KINDS
    try:
        return getattr(array, "__cuda_array_interface__", None) is not None
    except Exception:  # libraries raise for what the protocol has no type for
        return False


def checked_block(block: Any) -> Sizes:
    """Block sizes (bm, bk, bn) from one integer or three; ValueError for anything else."""
    sizes: tuple[int, ...] = ()
    with contextlib.suppress(TypeError, ValueError):
        given = (block,) * 3 if np.ndim(block) == 0 else block
        sizes = tuple(operator.index(size) for size in given)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"block: expected a positive integer or three of them, got {block!r}")
    return sizes[0], sizes[1], sizes[2]
