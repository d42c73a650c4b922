"""A MetaSchedule runner on all GPUs of this host: a worker process each, one candidate at a time.

A kernel that hangs, faults or corrupts memory ends its process, and with that its CUDA context: the
pool kills a worker that takes too long and replaces one whose call failed, since after a fault
every call in that context fails. The GPU is used on by the next process. A GPU that does not work
at all is given up and its candidate measured on another one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from familyseer.errors import UserError
from familyseer.measure._failures import TimeLimitError, WorkerError, describe_failure
from familyseer.measure._gpu_timing import GpuLostError
from familyseer.measure._gpus import VISIBLE, Gpu, alike, can_run, list_gpus
from familyseer.measure._jobs import hashable_args_info, run_candidate
from familyseer.measure._measure import OutOfTimeError
from familyseer.measure._nvml import ClockWatch
from familyseer.measure._runner import finish_run, start_all
from familyseer.measure._timing import RunPlan
from familyseer.measure._workers import Call, WorkerPool
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PyRunner: Any = ms.runner.PyRunner

# starting the driver on a host with many GPUs takes seconds
_LIST_S = 60.0
_CALLS_PER_WORKER = 400


# a driver that ends a hung context, or another user's memory, may be in the way for a moment
_STRIKES = 3


class GpusGoneError(OutOfTimeError):
    """No GPU of the host works any more; it is no fault of the candidate."""


@dataclass(eq=False)
class _Place:
    """A GPU of the pool and what became of it."""

    gpu: Gpu
    timed: int = 0
    failed: int = 0
    busy_s: float = 0.0
    strikes: int = 0
    lost: str | None = None


@dataclass(eq=False)
class _Job:
    """A run, on whichever GPU it is now."""

    args: tuple[Any, ...]
    priority: float
    worker: int | None
    # never marked as running: so it can be cancelled at any time until it has a result
    future: Future[Any] = field(default_factory=Future)
    call: Call | None = None

    def stop(self, future: Future[Any]) -> None:
        """Ends the call of a run that its caller gave up."""
        if future.cancelled() and self.call is not None:
            self.call.cancel()


@tvm.ir.utils.derived_object
class GpuRunner(_PyRunner):
    """Runs candidates on every GPU of this host that is like the first one.

    It stands in for `familyseer.measure.WarmRunner`.

    Parameters
    ----------
    gpus
        By default those that ``CUDA_VISIBLE_DEVICES`` shows.
    arch
        Of the candidates, such as ``sm_90``; None if unknown.
    timeout_s
        Longest time for one candidate, in seconds.
    plan
        How long candidates are measured; its `cutoff_s` can be set for each call of `start`.
    memory_mib
        Most main memory of one worker process, in MiB; see `WorkerPool`.
    on_gone
        Told, from another thread, that no GPU is left; end the run there.

    Attributes
    ----------
    gone
        Why no GPU is left, or None.
    dispatches
        True: candidates may be given while others build.
    undisturbed
        True: other rounds' candidates may build meanwhile, for what the host does is in no time.

    Raises
    ------
    UserError
        There is no GPU, or the first one cannot run code for `arch`.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu] | None = None,
        *,
        arch: str | None = None,
        timeout_s: float = 10.0,
        plan: RunPlan | None = None,
        memory_mib: int | None = None,
        on_gone: Callable[[GpusGoneError], None] = lambda _error: None,
    ) -> None:
        super().__init__()
        found = _find() if gpus is None else list(gpus)
        if not found:
            raise UserError(
                "no CUDA GPU can be used here (familyseer doctor says what is missing): expected "
                "one to measure on"
            )
        if arch is not None and not can_run(found[0].arch, arch):
            raise UserError(
                f"target {arch}: its code does not run on this host's {found[0].model} "
                f"({found[0].arch}); expected a target of that architecture, such as cuda"
            )
        kept, self._warnings = alike(found)
        self.dispatches = self.undisturbed = True
        self.gone: GpusGoneError | None = None
        self._on_gone = on_gone
        self.timeout_s = timeout_s
        self.plan = plan or RunPlan()
        self.pool = WorkerPool(
            len(kept),
            calls_per_worker=_CALLS_PER_WORKER,
            memory_mib=memory_mib,
            environments=[{VISIBLE: gpu.name} for gpu in kept],
        )
        self._places = [_Place(gpu) for gpu in kept]
        self._lock = threading.Lock()
        self._watch = ClockWatch([gpu.bus for gpu in kept])

    def start(
        self,
        path: str,
        device_type: str,
        args_info: Any,
        cutoff_s: float | None = None,
        *,
        group: str | None = None,
        priority: float = 0.0,
    ) -> Future[Any]:
        """Starts one run on the next free GPU; see `finish`.

        Parameters
        ----------
        group
            Of no account: all GPUs here are alike.
        priority
            The higher, the earlier; such as the number of sibling subgraphs that wait for the
            result. Equal ones are run in the order in which they came.
        """
        return self._start(path, device_type, args_info, cutoff_s, priority, None)

    def start_again(
        self,
        path: str,
        device_type: str,
        args_info: Any,
        cutoff_s: float | None = None,
        *,
        group: str | None = None,
        priority: float = 0.0,
    ) -> Future[Any]:
        """As `start`, for candidates that are timed in turns: all on one GPU.

        GPUs of one model differ by some per cent, which is what turns are to tell.
        """
        working = (i for i, place in enumerate(self._places) if place.lost is None)
        return self._start(path, device_type, args_info, cutoff_s, priority, next(working, None))

    def finish(self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf) -> Any:
        """Waits for a run and gives its `RunnerResult`.

        Raises
        ------
        OutOfTimeError
            `time_left()` came to nothing first; the run is given up.
        GpusGoneError
            No GPU works any more. It is an `OutOfTimeError`.
        """
        return finish_run(future, time_left, self.plan.repeats)

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        """Starts all inputs and gives a future for each, as MetaSchedule's runners do."""
        return start_all(self, runner_inputs)

    def gpus(self) -> list[dict[str, Any]]:
        """What a report says of each GPU, as JSON can hold it: model, counts, clocks.

        ``busy_s`` are the seconds that its candidates took, loading and arguments included.
        """
        return [
            {
                **asdict(place.gpu),
                "timed": place.timed,
                "failed": place.failed,
                "busy_s": round(place.busy_s, 3),
                "lost": place.lost,
                "driver": self._watch.driver,
                "clocks": asdict(self._watch.clocks(place.gpu.bus)),
            }
            for place in self._places
        ]

    def warnings(self) -> list[str]:
        """What people should be told, in order."""
        return list(self._warnings)

    def close(self) -> None:
        """Stops the processes."""
        self.pool.close()
        self._watch.close()

    def _start(
        self,
        path: str,
        device_type: str,
        args_info: Any,
        cutoff_s: float | None,
        priority: float,
        worker: int | None,
    ) -> Future[Any]:
        plan = replace(self.plan, cutoff_s=cutoff_s)
        args = (path, device_type, hashable_args_info(args_info), plan)
        job = _Job(args, priority, worker)
        job.future.add_done_callback(job.stop)
        self._submit(job)
        return job.future

    def _submit(self, job: _Job) -> None:
        call = self.pool.submit(
            run_candidate,
            *job.args,
            timeout_s=self.timeout_s,
            priority=job.priority,
            worker=job.worker,
        )
        job.call = call
        if job.future.cancelled():
            call.cancel()
        call.add_done_callback(lambda _: self._done(job, call))

    def _done(self, job: _Job, call: Call) -> None:
        if call.cancelled():
            job.future.cancel()
            return
        error: BaseException | None = call.exception()
        place = self._places[call.worker or 0]
        if isinstance(error, GpuLostError):
            error = self._strike(place, error)
            if error is None:
                job.worker = None
                self._submit(job)
                return
        else:
            busy_s = 0.0 if call.began is None else time.monotonic() - call.began
            self._book(place, busy_s, failed=error is not None)
        if job.future.set_running_or_notify_cancel():
            if error is None:
                job.future.set_result(call.result())
            else:
                job.future.set_exception(error)

    def _book(self, place: _Place, busy_s: float, *, failed: bool) -> None:
        with self._lock:
            place.busy_s += busy_s
            place.timed += not failed
            place.failed += failed
            place.strikes = 0
        # just now it was at work
        self._watch.sample(place.gpu.bus)

    def _strike(self, place: _Place, error: GpuLostError) -> GpusGoneError | None:
        """Leaves a GPU alone that failed again and again; an error if there is no other one."""
        with self._lock:
            if self.gone is not None:
                return self.gone
            place.strikes += 1
            if place.strikes < _STRIKES or place.lost is not None:
                return None
            place.lost = str(error)
            self._warnings.append(f"GPU {place.gpu.name} is given up: {error}")
            if any(one.lost is None for one in self._places):
                self.pool.retire(self._places.index(place))
                return None
            self.gone = GpusGoneError(f"no GPU of this host works any more: {error}; the run ends")
        self._on_gone(self.gone)
        return self.gone


def _find() -> list[Gpu]:
    """This host's GPUs, listed in a process that is gone afterwards."""
    with WorkerPool(1) as pool:
        try:
            return list(pool.submit(list_gpus, timeout_s=_LIST_S).result())
        except (RuntimeError, OSError, WorkerError, TimeLimitError) as error:
            raise UserError(
                f"{describe_failure('listing the GPUs', error)}; expected one to measure on"
            ) from None
