"""Functions that workers are asked to call in the tests."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
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


def is_loaded(module: str) -> bool:
    return module in sys.modules


def stay_in_native_code(seconds: int) -> None:
    ctypes.PyDLL(None).sleep(seconds)


def report_and_sleep(path: str) -> None:
    """Says that it has begun, then sleeps."""
    with open(path, "w", encoding="ascii") as report:
        report.write(str(os.getpid()))
    time.sleep(600)


def ignore_sigterm_and_spin() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


def leave(how: str) -> None:
    """Ends the worker's process in one of the ways that look like success."""
    if how == "os._exit":
        os._exit(0)
    elif how == "exit":
        ctypes.CDLL(None).exit(0)
    else:
        raise SystemExit(0)


def segfault() -> None:
    ctypes.string_at(0)


def damage_double() -> str:
    """Overwrites memory so that whoever calls `double` in this process crashes."""
    ctypes.memset(id(double) + object.__basicsize__ // 2, 0, 8)
    return "damaged"


def crash_when_idle() -> str:
    threading.Timer(0.1, os.abort).start()
    return "about to crash"


def scribble_over_descriptors() -> str:
    for descriptor in range(3, 64):
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, b"garbage " * 8)
        except OSError:
            continue
    return "scribbled"


def close_descriptors() -> str:
    os.closerange(3, 64)
    return "closed"


def allocate_without_end() -> None:
    """Touches 16 MiB after the other, as a leak would, for as long as it is let."""
    held = []
    while True:
        held.append(b"\1" * (16 << 20))


def child_allocates_without_end() -> None:
    subprocess.run(
        [sys.executable, "-c", "held = []\nwhile True: held.append(b'1' * (16 << 20))"], check=False
    )


def leave_child(path: str, *, with_crash: bool = False, own_session: bool = False) -> str:
    """Forks a child that sleeps and holds all that its parent had open."""
    child = os.fork()
    if child == 0:
        if own_session:
            os.setsid()
        with open(path, "w", encoding="ascii") as report:
            report.write(str(os.getpid()))
        time.sleep(600)
    while not (os.path.exists(path) and os.path.getsize(path)):
        time.sleep(0.01)
    if with_crash:
        os.abort()
    return "left a child"


def come_back_twice() -> str:
    """Both the child and the parent return to the worker's code."""
    return "child" if os.fork() == 0 else "parent"


def write_without_end(path: str) -> None:
    with open(path, "wb") as flood:
        flood.truncate(1 << 40)


class StubbornError(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("first line\nlast \x1b[31mline")


def raise_stubborn() -> None:
    raise StubbornError(1, 2)


def give_unpicklable() -> object:
    return lambda: None


def limits_of_process() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_CORE)[0], os.getsid(0)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def pretend_gpu(path: str, *_: object) -> list[float]:
    """Runs nothing. The GPU of that name is broken; the file says what the candidate does."""
    from familyseer.measure._gpu_timing import GpuLostError

    own = os.environ["CUDA_VISIBLE_DEVICES"]
    if own == "broken":
        raise GpuLostError("the GPU cannot be used: out of memory")
    with open(path, encoding="ascii") as file:
        what = file.read()
    if what == "fault":
        raise RuntimeError("CUDA: an illegal memory access was encountered")
    if what == "hang":
        time.sleep(600)
    time.sleep(0.05)
    return [float(os.getpid())] * 3


def size_as_time(path: str, *_: object) -> list[float]:
    """Runs nothing: a candidate takes as many nanoseconds as its library has bytes."""
    return [os.path.getsize(path) * 1e-9] * 3
