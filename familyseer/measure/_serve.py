"""What a worker process does: bind itself to its limits, then answer calls until it is killed."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.reduction import ForkingPickler
from typing import Any

from familyseer.measure._failures import CallError

READY = b"ready"
MIB = 1 << 20
# far beyond any library or object file of a subgraph; a flood ends here and not at the disk's end
LARGEST_FILE = 2048 * MIB
# the kernel takes a worker before its owner when the whole machine runs out of memory
OOM_SCORE = "500"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes
    ----------
    quiet
        Whether what it prints goes nowhere.
    threads
        Threads of TVM's pool; None for TVM's default.
    data_bytes
        Private writable memory of the process (``RLIMIT_DATA``); None for no limit.
    environment
        Variables that it has beside those of its owner.
    """

    quiet: bool = True
    threads: int | None = None
    data_bytes: int | None = None
    environment: tuple[tuple[str, str], ...] = ()


def serve(connection: Connection, limits: Limits) -> None:
    """Answers calls, each a pickled ``(function, args)``, until the other end is closed.

    An answer is the pickled ``(succeeded, value or exception, left processes running)``.
    """
    _bind(limits)
    own = os.getpid()
    connection.send_bytes(READY)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        succeeded, value = _call(request)
        if os.getpid() != own:
            # a child that the call forked came back here too; there must not be two workers
            os._exit(1)
        connection.send_bytes(_answer(succeeded, value))


def _bind(limits: Limits) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a group of its own: Ctrl-C is not for it, and one signal kills it with all its children
    os.setsid()
    _leave_the_owners_pipes()
    # a worker deep in native code never gets to a Python handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, LARGEST_FILE)
    if limits.data_bytes is not None:
        _lower(resource.RLIMIT_DATA, limits.data_bytes)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # the fork server ends with the tuner, and a worker with the fork server: no orphans
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # grandchildren whose parent is gone become children, which can be found
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
                score.write(OOM_SCORE)
        except OSError:
            pass  # a container may forbid it
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2) if limits.quiet else (0,):
        os.dup2(null, descriptor)
    os.close(null)
    os.environ.update(limits.environment)
    if limits.threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(limits.threads)


def _leave_the_owners_pipes() -> None:
    """Closes what multiprocessing gives to a process that may start others.

    While anybody holds the fork server's pipe it lives, and it must end with the tuner. What is
    written into the resource tracker's is taken for commands.
    """
    for holder, name in (
        (forkserver._forkserver, "_forkserver_alive_fd"),
        (resource_tracker._resource_tracker, "_fd"),
    ):
        descriptor = getattr(holder, name, None)
        if isinstance(descriptor, int):
            setattr(holder, name, None)
            os.close(descriptor)


def _lower(kind: int, wanted: int) -> None:
    """Sets a soft limit, unless the hard one is lower already."""
    _, hard = resource.getrlimit(kind)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (soft, hard))


def _call(request: bytes) -> tuple[bool, Any]:
    try:
        function, args = pickle.loads(request)
        return True, function(*args)
    except Exception as error:
        return False, ExceptionWithTraceback(error, error.__traceback__)
    except BaseException as error:
        # SystemExit and its kin would end the tuner where the result is asked for
        return False, CallError(f"raised {type(error).__name__}: {error}")


def _answer(succeeded: bool, value: Any) -> bytes:
    strays = _children_run()
    try:
        answer = bytes(ForkingPickler.dumps((succeeded, value, strays)))
        if not succeeded:
            # some exceptions can be pickled and not unpickled
            pickle.loads(answer)
    except Exception as error:
        told = error if succeeded else value
        told = getattr(told, "exc", told)
        lines = str(told).strip().splitlines() or [""]
        text = CallError(f"{type(told).__name__}: {lines[-1]}")
        return bytes(ForkingPickler.dumps((False, text, strays)))
    return answer


def _children_run() -> bool:
    """Whether the call left processes running; the finished ones are taken note of."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if ended == 0:
            return True
