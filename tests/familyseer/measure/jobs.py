"""Functions that workers are asked to call in the tests."""

from __future__ import annotations

import os
import sys
import time


def double(x: int) -> int:
    return 2 * x


def crash() -> None:
    os.abort()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def chatter() -> str:
    print("noise on stdout")
    print("noise on stderr", file=sys.stderr)
    os.write(1, b"noise on the descriptor")
    return "done"


def process_id() -> int:
    return os.getpid()


def tvm_is_loaded() -> bool:
    return "tvm.s_tir.tensor_intrin" in sys.modules


def stay_in_native_code(seconds: int) -> None:
    import ctypes

    ctypes.PyDLL(None).sleep(seconds)
