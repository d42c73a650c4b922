"""The one way in to TVM: versions checked before it loads, its slow import made fast.

TVM's own import of its tensor intrinsics asks ``inspect.getmodule`` tens of thousands of times, and
each call walks every loaded module: 14 s on a slow core. Answering from the caller's own globals
gives the same modules in about 2 s.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from familyseer.errors import UserError
from familyseer.toolchain import cuda_environment_once

TVM_VERSION = "0.27.0"
FFI_BELOW = (0, 1, 15)
_lock = threading.Lock()


def check_versions() -> None:
    """Refuses the TVM installations that crash, before anything can segfault.

    Raises
    ------
    UserError
        TVM is missing, or its version or that of its FFI layer is not one known to work.
    """
    wanted = f"expected apache-tvm {TVM_VERSION} with apache-tvm-ffi below 0.1.15"
    fix = "pip install 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi>=0.1.14.post0,<0.1.15'"
    try:
        tvm_version = importlib.metadata.version("apache-tvm")
        ffi_version = importlib.metadata.version("apache-tvm-ffi")
    except importlib.metadata.PackageNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: {wanted} ({fix})") from None
    if not tvm_version.startswith(TVM_VERSION):
        raise UserError(f"apache-tvm {tvm_version} is installed: {wanted} ({fix})")
    if _numbers(ffi_version) >= FFI_BELOW:
        raise UserError(f"apache-tvm-ffi {ffi_version} makes this TVM segfault: {wanted} ({fix})")


def _numbers(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.split(".")[:3]:
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def load_tvm(*, intrinsics: bool = False) -> ModuleType:
    """Imports TVM after checking its version and gives the module.

    Parameters
    ----------
    intrinsics
        Load the tensor intrinsics too, which every tuning context and every build asks for.

    Raises
    ------
    UserError
        As `check_versions`.
    """
    with _lock:
        if "tvm" not in sys.modules:
            check_versions()
        cuda_environment_once()
        tvm = importlib.import_module("tvm")
        importlib.import_module("tvm.relax")
        importlib.import_module("tvm.s_tir.meta_schedule")
        importlib.import_module("ops.cuda_source").mend_cuda_sources()
        if intrinsics and "tvm.s_tir.tensor_intrin" not in sys.modules:
            with _fast_getmodule():
                importlib.import_module("tvm.s_tir.tensor_intrin")
    return tvm


@contextmanager
def _fast_getmodule() -> Iterator[None]:
    original = inspect.getmodule

    def getmodule(object: Any, _filename: str | None = None) -> ModuleType | None:
        name = object.f_globals.get("__name__") if inspect.isframe(object) else None
        if name is None:
            name = getattr(object, "__module__", None)
        module = sys.modules.get(name) if isinstance(name, str) else None
        return module if module is not None else original(object, _filename)

    inspect.getmodule = getmodule
    try:
        yield
    finally:
        inspect.getmodule = original
