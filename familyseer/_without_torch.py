"""TVM loaded without PyTorch, in processes that have no use for it.

Where PyTorch is installed, TVM's FFI layer imports it first, for the sake of a conflict of symbols
on Windows (the comment is in ``tvm_ffi/__init__.py``). That is two thirds of the seconds that it
takes to load TVM, and memory of every worker. PyTorch can be imported afterwards and takes part in
all exchange of tensors; only `tvm_ffi.use_torch_stream` and the conversion of its dtypes are then
missing, so processes of users' own programs load TVM as TVM wants it.
"""

from __future__ import annotations

import importlib.abc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_left_out = threading.Event()


def leave_torch_out() -> None:
    """Has this process load TVM without PyTorch from now on; for `familyseer.tvm_env.load_tvm`."""
    _left_out.set()


@contextmanager
def torch_as_wanted() -> Iterator[None]:
    """While it lasts, this thread finds no PyTorch where it is to be left out."""
    if not _left_out.is_set() or "torch" in sys.modules:
        yield
        return
    finder = _NoTorch(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NoTorch(importlib.abc.MetaPathFinder):
    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> None:
        if fullname == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("PyTorch is left out while TVM loads", name=fullname)
