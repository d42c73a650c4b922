"""How a kernel is timed: for how long, on which data, and with how much of it in the caches.

Between two runs of a kernel a model touches its other weights and activations, so the kernel finds
little of its own data in the nearer caches. One that is run again and again on the same data finds
all of it there, and kernels that waste memory traffic look as good as those that save it. So the
runs that are timed take turns over as many sets of arguments as the model would touch in between.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from familyseer.tvm_env import load_tvm

# more than the last cache of most processors, little enough to be filled for every subgraph
MOST_BYTES = 64 << 20
# a kernel of a few bytes is not worth thousands of tensors: its data hardly matters
MOST_SETS = 256
# a device that can only be told to write its caches back is told so from here on: what is less
# stays in a core's own cache between two runs
FLUSH_BYTES = 8 << 20
# where a GPU's driver does not tell the size of its L2 cache
ASSUMED_L2_BYTES = 64 << 20
# of each timing on a GPU, where every run is timed by itself
MOST_COLD_RUNS = 100
_FLUSH = "cache_flush_bytes"
# kinds of devices as DLPack numbers them
_CPU, _CUDA = 1, 2


@dataclass(frozen=True)
class RunPlan:
    """How a candidate is measured.

    A candidate's first runs decide whether more of them are worth their time: one that is already
    slower than `cutoff_s` by `margin` cannot become the best, and its rough time is good enough
    for a model to learn from.

    Attributes
    ----------
    repeats
        Timings reported for a candidate worth measuring.
    repeat_ms
        Least length of each of those timings, in milliseconds.
    cutoff_s
        The subgraph's best time so far, in seconds; None measures in full.
    margin
        How many times slower than the best a candidate may look and still be measured in full.
    working_set_bytes
        What the model touches between two runs of a subgraph, in bytes (`working_set_bytes`). On
        CPUs a candidate is timed with as much touched in between; 0 runs it on the same data.
    """

    repeats: int = 3
    repeat_ms: float = 6.0
    cutoff_s: float | None = None
    margin: float = 1.25
    working_set_bytes: int = 0

    def runs(self, first_s: float) -> int:
        """Runs of each timing of a kernel whose first runs took so many seconds."""
        return max(1, int(self.repeat_ms * 1e-3 / max(first_s, 1e-9)))

    def hopeless(self, first_s: float) -> bool:
        """Whether a kernel whose first runs took so long cannot become the best."""
        return self.cutoff_s is not None and first_s > self.margin * self.cutoff_s


def time_rotating(main: Any, sets: list[list[Any]], plan: RunPlan) -> list[float]:
    """Times a kernel of this machine's CPU, each run on the next set of arguments.

    Calling it from here costs 0.1 us a run, about what the model's own executor takes.

    Returns
    -------
    list[float]
        Seconds a run, one figure a repeat.
    """
    turns = cycle(sets)

    def timed(runs: int) -> float:
        calls = list(islice(turns, runs))
        started = time.perf_counter()
        for args in calls:
            main(*args)
        return (time.perf_counter() - started) / runs

    main(*next(turns))  # loads code, starts the thread pool
    first = min(timed(1), timed(1))
    if plan.hopeless(first):
        return [first]
    runs = plan.runs(first)
    return [timed(runs) for _ in range(plan.repeats)]


def time_kernel(
    lib: Any, device: Any, args: list[Any], plan: RunPlan, cold: Mapping[str, Any]
) -> list[float]:
    """Times the ``main`` of a loaded library, here or over RPC, always on the same data.

    Parameters
    ----------
    cold
        What `cold_options` gives for the device and the plan.
    """
    lib["main"](*args)  # loads code, starts the thread pool, touches memory
    device.sync()
    once = lib.time_evaluator("main", device, number=1, repeat=2, **cold)
    first = min(float(t) for t in once(*args).results)
    if plan.hopeless(first):
        return [first]
    runs = plan.runs(first)
    if not cold:
        full = lib.time_evaluator("main", device, number=runs, repeat=plan.repeats)
        return [float(t) for t in full(*args).results]
    if _FLUSH in cold:
        runs = min(runs, MOST_COLD_RUNS)
    each = lib.time_evaluator("main", device, number=1, repeat=runs * plan.repeats, **cold)
    seconds = [float(t) for t in each(*args).results]
    return [statistics.fmean(seconds[i :: plan.repeats]) for i in range(plan.repeats)]


def cold_options(device: Any, plan: RunPlan) -> dict[str, Any]:
    """What TVM's evaluator is told so that each run finds little of its data in the caches.

    A GPU, behind RPC or not, writes over its L2 cache before each run where the model touches more
    than that holds. A CPU behind RPC writes its caches back as far as TVM can have it do so, for
    what no core's own cache would hold. Empty where runs follow each other on warm data.
    """
    # TVM adds a multiple of 128 for each session in between to the type of the device
    sessions, kind = divmod(int(device.dlpack_device_type()), 128)
    if kind == _CUDA:
        cache = int(device.l2_cache_size_bytes or ASSUMED_L2_BYTES)
        # of two arrays of that size one is copied to the other
        return {_FLUSH: cache} if plan.working_set_bytes > cache else {}
    if kind == _CPU and sessions and plan.working_set_bytes >= FLUSH_BYTES:
        return {"f_preproc": "cache_flush_cpu_non_first_arg"}
    return {}


def rotation(first: list[Any], touched_bytes: int) -> list[list[Any]]:
    """Sets of arguments that together are as large as what a model touches between two runs.

    Parameters
    ----------
    first
        The first set, tensors of this machine's CPU.
    touched_bytes
        At least so many bytes in all, within `MOST_BYTES` and `MOST_SETS`.
    """
    tvm = load_tvm()
    size = sum(_bytes(tuple(tensor.shape), tensor.dtype) for tensor in first)
    copies = math.ceil(min(touched_bytes, MOST_BYTES) / max(size, 1))
    sets = [first]
    for _ in range(min(copies, MOST_SETS) - 1):
        more = [tvm.runtime.empty(tuple(t.shape), t.dtype, t.device) for t in first]
        for made, tensor in zip(more, first, strict=True):
            made.copyfrom(tensor)
        sets.append(more)
    return sets


def working_set_bytes(subgraphs: Any) -> int:
    """What one run of a model touches, in bytes: the arguments of all its subgraphs' runs.

    Parameters
    ----------
    subgraphs
        The model's `familyseer.subgraphs.Subgraph`s.
    """
    arg_info = load_tvm().s_tir.meta_schedule.arg_info
    total = 0
    for subgraph in subgraphs:
        for info in arg_info.ArgInfo.from_entry_func(subgraph.mod, remove_preproc=True):
            if isinstance(info, arg_info.TensorInfo):
                shape = tuple(int(extent) for extent in info.shape)
                total += subgraph.weight * _bytes(shape, str(info.dtype))
    return total


def expect_model(runner: Any, subgraphs: Any) -> None:
    """Tells a runner of ours what the model touches between two runs of a subgraph."""
    plan = getattr(runner, "plan", None)
    if isinstance(plan, RunPlan):
        runner.plan = replace(plan, working_set_bytes=working_set_bytes(subgraphs))


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    # a type such as bool or int4 takes a whole byte where it stands alone
    return math.prod(shape) * max(1, load_tvm().DataType(str(dtype)).itemsize)


def make_arguments(device: Any, args_info: tuple[Any, ...], fill: Any) -> list[Any]:
    """Random tensors on a device for a subgraph's buffers.

    Integers are 0 or 1: they are often indices, and an index outside its table would crash a
    candidate that is not at fault.

    Parameters
    ----------
    fill
        TVM's function on the device that fills a tensor, None to send numbers there.
    """
    import numpy as np

    tvm = load_tvm()
    rng = np.random.default_rng(0)
    made = []
    for kind, dtype, shape in args_info:
        if kind != "TENSOR":
            raise NotImplementedError(f"argument of kind {kind}: only tensors can be made")
        tensor = tvm.runtime.empty(tuple(shape), dtype, device)
        if "int" in dtype or dtype == "bool":
            tensor.copyfrom(rng.integers(0, 2, size=tuple(shape)).astype(dtype))
        elif fill is not None:
            fill(tensor)
        else:
            tensor.copyfrom(rng.standard_normal(tuple(shape)).astype(dtype))
        made.append(tensor)
    return made
