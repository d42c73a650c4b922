"""Timing on a GPU: by events in its own stream, with the host ahead and the caches as in a model.

A kernel of microseconds is over before the host has launched the next, so the time between two
events would be the host's. Therefore something else keeps the GPU busy while the host enqueues the
events and the kernel between them. Writing over more memory than the L2 cache holds does that, and
leaves the cache as a model leaves it that touches more than fits: with none of the kernel's data.
Triton's ``do_bench`` times so. For a model that fits, runs follow each other behind one that
fetches the data again.
"""

from __future__ import annotations

import statistics
from functools import lru_cache
from typing import Any, Protocol

from familyseer.measure._failures import WorkerError
from familyseer.measure._timing import ASSUMED_L2_BYTES, MOST_COLD_RUNS, RunPlan
from familyseer.tvm_env import load_tvm

# of the cache's size: what is written over pushes out all that was there
FLUSHED = 2
# runs between two events on warm data, and how many writings let the host enqueue them all
WARM_RUNS, WARM_LEAD = 32, 8


class GpuLostError(WorkerError):
    """A GPU that a worker was to use does not work; the candidate is not to blame."""


class Stream(Protocol):
    """What timing needs of a GPU; all but `sync` and `seconds` return at once."""

    l2_bytes: int

    def flush(self) -> None:
        """Writes over `FLUSHED` times the L2 cache."""

    def mark(self) -> Any:
        """An event behind everything enqueued so far."""

    def sync(self) -> None:
        """Waits for everything enqueued; raises if any of it failed."""

    def seconds(self, begin: Any, end: Any) -> float:
        """Seconds of the GPU's clock between two events, once."""


def time_on_gpu(main: Any, args: list[Any], stream: Stream, plan: RunPlan) -> list[float]:
    """Times a kernel on the GPU of a stream.

    Returns
    -------
    list[float]
        Seconds a run, one figure a repeat, each the median of its samples: the one that the host
        was interrupted in says nothing.
    """
    cold = plan.working_set_bytes > stream.l2_bytes
    main(*args)  # loads code
    stream.sync()

    def timed(samples: int, runs: int) -> list[float]:
        pairs = []
        for _ in range(samples):
            for _ in range(1 if runs == 1 else WARM_LEAD):
                stream.flush()
            if not cold:
                main(*args)
            begin = stream.mark()
            for _ in range(runs):
                main(*args)
            pairs.append((begin, stream.mark()))
        stream.sync()
        return [stream.seconds(*pair) / runs for pair in pairs]

    first = min(timed(2, 1))
    if plan.hopeless(first):
        return [first]
    runs = 1 if cold else min(WARM_RUNS, plan.runs(first))
    samples = max(1, min(MOST_COLD_RUNS, plan.runs(first) // runs))
    return [statistics.median(timed(samples, runs)) for _ in range(plan.repeats)]


@lru_cache(maxsize=1)
def gpu_stream() -> Stream | None:
    """The stream that TVM launches on, on this process's first GPU; None without cuda-bindings.

    Raises
    ------
    GpuLostError
        The GPU cannot be used: nothing can be allocated or set there.
    """
    device = load_tvm().cuda(0)
    try:
        load_tvm().runtime.empty((1,), "int8", device)
        device.sync()
    except Exception as error:  # whatever the driver says, it is not the candidate's doing
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GpuLostError(f"the GPU cannot be used: {lines[-1]}") from None
    try:
        return _DriverStream(device)
    except ImportError:
        return None


class _DriverStream:
    """The default stream of TVM's own context, by the driver's functions."""

    def __init__(self, device: Any) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self.l2_bytes = int(device.l2_cache_size_bytes or ASSUMED_L2_BYTES)
        self._size = FLUSHED * self.l2_bytes
        # TVM's, so that it is in TVM's context and this thread has that context
        self._scratch = load_tvm().runtime.empty((self._size,), "int8", device)
        self._device = device
        self._default = driver.CUstream(0)
        self._address = driver.CUdeviceptr(int(self._scratch.data_ptr()))

    def flush(self) -> None:
        self._call("cuMemsetD8Async", self._address, 0, self._size, self._default)

    def mark(self) -> Any:
        event = self._call("cuEventCreate", 0)
        self._call("cuEventRecord", event, self._default)
        return event

    def sync(self) -> None:
        self._device.sync()

    def seconds(self, begin: Any, end: Any) -> float:
        milliseconds = self._call("cuEventElapsedTime", begin, end)
        for event in (begin, end):
            self._call("cuEventDestroy", event)
        return float(milliseconds) * 1e-3

    def _call(self, name: str, *args: Any) -> Any:
        status, *result = getattr(self._driver, name)(*args)
        if int(status) != 0:
            raise RuntimeError(f"{name}: {status.name}")
        return result[0] if result else None
