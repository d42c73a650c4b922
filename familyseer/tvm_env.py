"""The one way in to TVM: versions checked before it loads, its slow import made fast.

TVM's own import of its tensor intrinsics asks ``inspect.getmodule`` tens of thousands of times, and
each call walks every loaded module: 14 s on a slow core. Answering from the caller's own globals
gives the same modules in about 2 s.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from familyseer._without_torch import torch_as_wanted
from familyseer.toolchain import cuda_environment_once
from familyseer.versions import TVM, check_once

_lock = threading.Lock()


def load_tvm(*, intrinsics: bool = False) -> ModuleType:
    """Imports TVM after checking its version and gives the module.

    The version is checked where TVM is loaded already too: a wrong one crashes only when it tunes.

    Parameters
    ----------
    intrinsics
        Load the tensor intrinsics too, which every tuning context and every build asks for.

    Raises
    ------
    UserError
        TVM is missing, or its version or that of its FFI layer is not one known to work (see
        `familyseer.versions`).
    """
    with _lock:
        check_once(*TVM)
        cuda_environment_once()
        with torch_as_wanted():
            tvm = importlib.import_module("tvm")
        importlib.import_module("tvm.relax")
        importlib.import_module("tvm.s_tir.meta_schedule")
        importlib.import_module("ops.cuda_source").mend_cuda_sources()
        if intrinsics:
            with _fast_getmodule():
                importlib.import_module("tvm.s_tir.tensor_intrin")
                # records of products in bfloat16 can be applied wherever others can
                importlib.import_module("ops.tensor_cores").register_bfloat16()
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
