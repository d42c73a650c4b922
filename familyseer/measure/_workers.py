"""Worker processes that start warm, live across rounds, and can be lost without harm.

Each worker has a thread of its owner that hands it calls, and a connection of its own, so that
whatever a candidate does to its process stays there: pools whose workers share a queue stop for
good when one dies idle, dies holding the queue's lock, or writes into it. One more thread
looks after all workers, and ends those that take too long or too much memory.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

from familyseer.machine import memory_bytes
from familyseer.measure._failures import (
    CallError,
    MemoryLimitError,
    NonsenseError,
    StrayProcessError,
    TimeLimitError,
    WorkerDiedError,
    WorkerError,
    WorkerStartError,
)
from familyseer.measure._process import Worker, warm_up
from familyseer.measure._queue import CallQueue
from familyseer.measure._serve import MIB, Limits

__all__ = ["Call", "WorkerPool", "default_memory_mib", "warm_up"]

# TVM in memory takes 100 MiB of it, a build of a large subgraph some hundreds
LEAST_MEMORY_MIB = 256
LEAST_DEFAULT_MIB = 1024
# how often running calls are looked after; an allocation grows by some 100 MiB meanwhile
LOOK_S = 0.1
# what a process reserves beside what it touches: stacks of threads, spare room of allocators
_PER_CORE_BYTES = 16 * MIB
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kfd", "/dev/dxg")


def default_memory_mib(workers: int) -> int:
    """What each of some workers may use, in MiB: together half of the memory granted.

    Builders take one half and the runner the other, so that neither starves the tuner: they are
    not busy at the same time. Never below 1 GiB, which a build needs.
    """
    return max(LEAST_DEFAULT_MIB, memory_bytes() // MIB // 2 // workers)


class Call(Future[Any]):
    """A call's future.

    Attributes
    ----------
    worker
        Which worker, from 0, has or had the call; None before one took it.
    began
        When that was, by `time.monotonic`.
    """

    worker: int | None = None
    began: float | None = None


@dataclass(eq=False)
class _Call:
    request: bytes
    timeout_s: float | None
    # never marked as running: so it can be cancelled at any time until it has a result
    future: Call = field(default_factory=Call)

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class WorkerPool:
    """Runs functions in warm processes, each call with its own time limit and memory.

    A worker is replaced after every call that failed, in whatever way. One that dies takes the call
    that it was at with it only if the call was its first: otherwise an earlier call may have
    damaged the process, and the call is made again, alone in a fresh one. Functions are therefore
    called twice at times. Children that a call leaves running are killed, and it fails.

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
    memory_mib
        Memory of one worker and its children, in MiB; by default `default_memory_mib`. A worker
        seen above it is killed. On a machine without a GPU a limit of the operating system
        somewhat above it stops allocations that are faster than that; drivers of GPUs reserve
        far more than they use.
    environments
        What each worker's environment has beside the tuner's, one for each of them; such as the
        one GPU that it sees.
    """

    def __init__(
        self,
        workers: int,
        *,
        calls_per_worker: int = 256,
        threads: int | None = None,
        quiet: bool = True,
        memory_mib: int | None = None,
        environments: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        if environments is not None and len(environments) != workers:
            raise ValueError(f"{len(environments)} environments: expected {workers}, as workers")
        if workers < 1:
            raise ValueError(f"workers is {workers}: expected at least 1")
        if memory_mib is None:
            memory_mib = default_memory_mib(workers)
        if memory_mib < LEAST_MEMORY_MIB:
            raise ValueError(f"memory_mib is {memory_mib}: expected at least {LEAST_MEMORY_MIB}")
        warm_up()
        self.workers = workers
        self.memory_mib = memory_mib
        limits = Limits(
            quiet=quiet and not os.environ.get("FAMILYSEER_DEBUG"),
            threads=threads,
            data_bytes=_data_bytes(memory_mib),
        )
        self._calls: CallQueue[_Call] = CallQueue()
        self._closing = threading.Event()
        self._slots = [
            _Slot(self, number, replace(limits, environment=tuple(own.items())), calls_per_worker)
            for number, own in enumerate(environments or [{}] * workers)
        ]
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def submit(
        self,
        function: Callable[..., Any],
        *args: Any,
        timeout_s: float | None = None,
        priority: float = 0.0,
        worker: int | None = None,
    ) -> Call:
        """Calls ``function(*args)`` in a worker; the function must be importable by name.

        The future raises what the function raised, `TimeLimitError` (a
        `concurrent.futures.TimeoutError`) when the call took longer than `timeout_s` once started,
        and another `WorkerError` when its process died, took too much memory or misbehaved. It can
        be cancelled while it runs, which kills the worker. Calls of a higher priority are made
        first; `worker`, from 0, names the only one that may make a call.

        Raises
        ------
        RuntimeError
            The pool was closed.
        """
        if self._closing.is_set():
            raise RuntimeError("the pool of workers is closed")
        self._start()
        try:
            # not its view of a buffer: early 3.12 crash when one is collected in a cycle
            request = bytes(ForkingPickler.dumps((function, args)))
        except Exception as error:  # pickling runs code of any class
            call = _Call(b"", None)
            call.settle(error=error)
            return call.future
        call = _Call(request, timeout_s)
        self._calls.put(call, priority=priority, only=worker)
        return call.future

    def retire(self, worker: int) -> None:
        """Gives a worker, counted from 0, no more calls; another one must be left."""
        self._calls.retire(worker)

    def close(self) -> None:
        """Stops every worker at once, whatever it is doing, and cancels what is not done."""
        if self._closing.is_set():
            return
        self._closing.set()
        atexit.unregister(self.close)
        for slot in self._slots:
            slot.interrupt()
        left = self._calls.close()
        for thread in self._threads:
            thread.join()
        for call in left:
            call.future.cancel()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        with self._starting:
            if self._threads:
                return
            # threads that outlive the interpreter's end would leave their workers behind
            atexit.register(self.close)
            jobs = [slot.work for slot in self._slots] + [self._look_after]
            self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
            for thread in self._threads:
                thread.start()

    def _look_after(self) -> None:
        while not self._closing.wait(LOOK_S):
            for slot in self._slots:
                slot.look()


class _Slot:
    """One worker's place in a pool: whoever holds it now, and the call it is at."""

    def __init__(
        self, pool: WorkerPool, number: int, limits: Limits, calls_per_worker: int
    ) -> None:
        self._pool = pool
        self._number = number
        self._limits = limits
        self._calls_per_worker = calls_per_worker
        self._worker: Worker | None = None
        # what follows is of the call under way and shared with the thread that looks after it
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._until: float | None = None
        self._used_bytes = 0
        self._verdict: Exception | None = None

    def work(self) -> None:
        """Hands calls to the worker, one after the other, until the pool closes."""
        self._renew()
        while (call := self._take()) is not None and not self._pool._closing.is_set():
            if call.future.cancelled():
                continue
            try:
                succeeded, value, _ = self._ask(call)
            except Exception as error:
                call.settle(error=error)
                self._renew()
                continue
            if succeeded:
                call.settle(value)
            else:
                call.settle(error=value)
            if not succeeded or self._worn():
                self._renew()
        if call is not None:
            call.future.cancel()
        self._drop()

    def _take(self) -> _Call | None:
        call = self._pool._calls.take(self._number)
        if call is not None:
            call.future.worker, call.future.began = self._number, time.monotonic()
        return call

    def look(self) -> None:
        """Kills the worker if its call has had its time, its memory, or nobody who waits."""
        with self._lock:
            call, worker = self._call, self._worker
            if call is None or worker is None or self._verdict is not None:
                return
            self._used_bytes = worker.resident_bytes() or self._used_bytes
            if call.future.cancelled():
                self._verdict = CallError("cancelled")
            elif self._until is not None and time.monotonic() > self._until:
                self._verdict = TimeLimitError(call.timeout_s or 0.0)
            elif self._used_bytes > self._pool.memory_mib * MIB:
                self._verdict = MemoryLimitError(self._pool.memory_mib)
            if self._verdict is not None or not worker.alive():
                worker.kill()

    def interrupt(self) -> None:
        """Ends the call under way, if any."""
        with self._lock:
            if self._call is not None and self._worker is not None:
                self._call.future.cancel()
                self._worker.kill()

    def _ask(self, call: _Call) -> tuple[bool, Any, bool]:
        while True:
            if self._worker is None or not self._worker.alive():
                self._renew()
            worker = self._worker
            if worker is None:
                raise WorkerStartError
            self._begin(call)
            try:
                answer = worker.ask(call.request, self._pool.memory_mib * MIB)
                if self._verdict is None and answer[2]:
                    raise StrayProcessError
                # the same limit for an answer that comes between two looks
                if self._until is not None and time.monotonic() > self._until:
                    raise TimeLimitError(call.timeout_s or 0.0)
                failure: Exception | None = None
            except WorkerDiedError as death:
                failure = WorkerDiedError(death.exitcode, self._memory())
            except WorkerError as error:
                failure = error
            finally:
                with self._lock:
                    self._call = None
            failure = self._verdict or failure
            if failure is None:
                return answer
            # who died of an earlier call's doing shows it by living when alone
            blameless = (WorkerDiedError, MemoryLimitError, NonsenseError)
            if worker.calls == 1 or not isinstance(failure, blameless) or self._gone(call):
                raise failure
            self._renew()

    def _begin(self, call: _Call) -> None:
        with self._lock:
            self._call, self._verdict, self._used_bytes = call, None, 0
            limit_s = call.timeout_s
            self._until = None if limit_s is None else time.monotonic() + limit_s

    def _gone(self, call: _Call) -> bool:
        return call.future.cancelled() or self._pool._closing.is_set()

    def _memory(self) -> str:
        """What is worth telling about the memory of a worker that died."""
        limit = self._pool.memory_mib
        used = self._used_bytes // MIB
        return f"it used {used} of {limit} MiB when last seen" if used > limit // 2 else ""

    def _worn(self) -> bool:
        return self._worker is not None and self._worker.calls >= self._calls_per_worker

    def _renew(self) -> None:
        self._drop()
        if self._pool._closing.is_set():
            return
        with contextlib.suppress(WorkerStartError):
            self._worker = Worker(self._limits)

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.close()
            self._worker = None


def _data_bytes(memory_mib: int) -> int | None:
    """The operating system's limit for a worker: above what is watched, as far as reserves go."""
    if any(os.path.exists(path) for path in _DEVICE_FILES):
        return None
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack = stack if 0 < stack < _PER_CORE_BYTES else _PER_CORE_BYTES
    reserves = (os.cpu_count() or 1) * (stack + _PER_CORE_BYTES)
    return memory_mib * MIB + max(memory_mib * MIB // 4, 512 * MIB) + reserves
