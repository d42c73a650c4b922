"""Worker processes that start warm, live across rounds, and can be lost without harm.

A fork server imports TVM once; every worker is a fork of it and is ready in milliseconds. So a
worker that crashed, hung or grew old costs nothing to replace. The pool itself, with its timeouts
and its notice of dead workers, is Pebble's.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import forkserver, popen_forkserver, spawn
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from pebble import ProcessPool

PRELOAD = "familyseer.measure._preload"
_PR_SET_PDEATHSIG = 1
_patching = threading.Lock()


@contextlib.contextmanager
def _main_left_alone() -> Iterator[None]:
    """Starts a process without running the user's script again inside it.

    multiprocessing imports ``__main__`` in every child. A tuning script without an
    ``if __name__ == "__main__"`` guard, which TVM's own pools never asked for, would tune itself
    again in each worker.
    """
    with _patching:
        original = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            data = original(name)
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
            return data

        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = original


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: Any) -> None:
        with _main_left_alone():
            super()._launch(process_obj)  # type: ignore[misc]


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name multiprocessing calls
        return _Popen(process_obj)


class _Context(ForkServerContext):
    Process = _Process


def warm_up() -> None:
    """Starts the fork server, which imports TVM beside whatever the caller does next."""
    multiprocessing.set_forkserver_preload([PRELOAD])
    with _main_left_alone():
        forkserver.ensure_running()


def _initialise(quiet: bool, threads: int | None) -> None:
    # Ctrl-C reaches the whole process group; ending the run is the tuner's business alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a worker deep in native code never gets to a Python handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        # the fork server ends with the tuner, and a worker with the fork server: no orphans
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if quiet:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)


class WorkerPool:
    """Runs functions in warm processes, each call with its own time limit.

    Parameters
    ----------
    workers
        Processes at a time.
    calls_per_worker
        Calls after which a worker is replaced, which bounds what a leak can grow to.
    threads
        Threads of TVM's pool in each worker; None leaves TVM's default, the physical cores.
    quiet
        Send what workers print to nowhere; a candidate's own chatter is of no use to anybody.
    """

    def __init__(
        self,
        workers: int,
        *,
        calls_per_worker: int = 256,
        threads: int | None = None,
        quiet: bool = True,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}: expected at least 1")
        warm_up()
        self.workers = workers
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=calls_per_worker,
            initializer=_initialise,
            initargs=[quiet and not os.environ.get("FAMILYSEER_DEBUG"), threads],
            context=_Context(),
        )

    def submit(
        self, function: Callable[..., Any], *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        """Calls ``function(*args)`` in a worker; the function must be importable by name.

        The future raises `concurrent.futures.TimeoutError` when the call took longer than
        `timeout_s` once started (the worker is killed), and `pebble.ProcessExpired` when its
        process died.
        """
        future: Future[Any] = self._pool.schedule(function, args=list(args), timeout=timeout_s)
        return future

    def close(self) -> None:
        """Stops every worker at once, whatever it is doing."""
        self._pool.stop()
        self._pool.join()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
