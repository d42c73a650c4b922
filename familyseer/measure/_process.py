"""One worker process as its owner sees it: started from a warm fork server, watched, killed.

A fork server imports TVM once; every worker is a fork of it and is ready in milliseconds. So a
worker that crashed, hung or grew old costs nothing to replace.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from multiprocessing import connection, forkserver, popen_forkserver, spawn
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import psutil

from familyseer.measure._failures import NonsenseError, WorkerDiedError, WorkerStartError
from familyseer.measure._serve import READY, Limits, serve

PRELOAD = "familyseer.measure._preload"
# a fork of a server that has yet to import TVM, on a machine that is busy with other things
START_LIMIT_S = 300.0
LAST_WORDS_S = 1.0
# of a killed process; only one stuck in a device's driver takes any time
END_LIMIT_S = 10.0
_patching = threading.Lock()
# multiprocessing asks for exit codes of all its children whenever it starts one, and the code of a
# fork server's child can be read once only
_exit_codes = threading.Lock()


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


def warm_up() -> None:
    """Starts the fork server, which imports TVM beside whatever the caller does next."""
    multiprocessing.set_forkserver_preload([PRELOAD])
    with _main_left_alone():
        forkserver.ensure_running()


class Worker:
    """A worker process.

    Its connection is its own: what a candidate writes into it, or a death in the middle of an
    answer, can harm no other worker. Calls come from one thread; `resident_bytes` and `kill` may
    come from another.

    Attributes
    ----------
    calls
        Calls it was given so far.

    Raises
    ------
    WorkerStartError
        It did not start.
    """

    def __init__(self, limits: Limits) -> None:
        self.calls = 0
        self._seen: dict[int, psutil.Process] = {}
        self._connection, theirs = ForkServerContext().Pipe()
        self._process = _Process(target=serve, args=(theirs, limits), daemon=True)
        try:
            with _exit_codes:
                self._process.start()
        except (OSError, EOFError):
            self._connection.close()
            raise WorkerStartError from None
        finally:
            theirs.close()
        self.pid = int(self._process.pid or 0)
        ready = connection.wait([self._connection, self._process.sentinel], START_LIMIT_S)
        try:
            started = self._connection in ready and self._connection.recv_bytes(64) == READY
        except (EOFError, OSError):
            started = False
        if not started:
            self.kill()
            self.close()
            raise WorkerStartError

    def ask(self, request: Any, longest_answer: int) -> tuple[bool, Any, bool]:
        """Sends a request and waits for the answer, as `serve` has them.

        Raises
        ------
        WorkerDiedError, NonsenseError
            The process ended first, or sent what is no answer.
        """
        self.calls += 1
        try:
            self._connection.send_bytes(request)
            # both, since a child of the worker may hold the connection open after its death
            ready = connection.wait([self._connection, self._process.sentinel])
            if self._connection not in ready:
                raise EOFError
            answer = self._connection.recv_bytes(longest_answer)
        except (EOFError, ConnectionError):
            # its own exit code, if it is about to end by itself
            connection.wait([self._process.sentinel], LAST_WORDS_S)
            raise WorkerDiedError(self.kill()) from None
        except (OSError, MemoryError):
            raise NonsenseError from None
        try:
            succeeded, value, strays = pickle.loads(answer)
        except Exception:  # whatever bytes that are no pickle of ours lead to
            raise NonsenseError from None
        return bool(succeeded), value, bool(strays)

    def resident_bytes(self) -> int:
        """Memory that the process and its children hold; 0 once it is gone."""
        total = 0
        with contextlib.suppress(psutil.Error):
            total = int(psutil.Process(self.pid).memory_info().rss)
            for child in self._children():
                self._seen[child.pid] = child
                with contextlib.suppress(psutil.Error):
                    total += int(child.memory_info().rss)
        return total

    def alive(self) -> bool:
        """Whether the process runs."""
        return not connection.wait([self._process.sentinel], 0)

    def kill(self) -> int | None:
        """Kills the process with all that it started and gives its exit code, None if unknown.

        Its children are those in its group, which no member can leave but by a session of its own;
        those that did are killed if they were children of it now or when last looked at.
        """
        for child in self._children():
            self._seen[child.pid] = child
        # a group outlives its leader, and its number is not given away before its last member ends
        if self.alive() or not psutil.pid_exists(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with _exit_codes:
            # one killed before it had a group of its own
            self._process.kill()
        for child in list(self._seen.values()):
            # psutil tells a process from a later one with the same number
            with contextlib.suppress(psutil.Error):
                child.kill()
        # nobody waits for the rest of an answer whose sender is gone
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as ours,
        ):
            ours.shutdown(socket.SHUT_RDWR)
        connection.wait([self._process.sentinel], END_LIMIT_S)
        with _exit_codes:
            return self._process.exitcode

    def close(self) -> None:
        """Lets go of the connection to a process that was killed."""
        self._connection.close()

    def _children(self) -> list[psutil.Process]:
        found = []
        waiting = [self.pid]
        while waiting:
            parent = waiting.pop()
            try:
                own = _child_ids(parent)
            except FileNotFoundError:
                own = []
            for pid in own:
                with contextlib.suppress(psutil.Error):
                    found.append(psutil.Process(pid))
                    waiting.append(pid)
        return found


def _child_ids(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    threads = f"/proc/{pid}/task"
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    # the kernel's own list, a few microseconds, where psutil would read about every process
    found: list[int] = []
    for thread in os.listdir(threads):
        with contextlib.suppress(OSError), open(f"{threads}/{thread}/children") as listed:
            found += map(int, listed.read().split())
    return found
