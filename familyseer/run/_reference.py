"""The untuned library: what the tuned one is measured and checked against.

TVM's untuned library may take minutes for what a tuned one does in a second. Nobody tuning for ten
minutes should wait for it: then a library of plain schedules, which computes the same numbers, is
what the tuned one is checked against, and the untuned library's latency stays unknown.
"""

from __future__ import annotations

import logging
import math
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.export import _jobs
from familyseer.export._compile import build_library
from familyseer.export._verify import all_finite, compare_outputs
from familyseer.measure import WorkerPool
from familyseer.measure._filed import filed
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.models import LoadedModel, example_inputs
from familyseer.search import Clock

log = logging.getLogger(__name__)

UNTUNED_REPEATS = 2
# the untuned library may be slow; this share of the budget is the most that two more runs of it,
# for other inputs or beside the tuned one, may take
UNTUNED_SHARE = 0.05
# and this one the most for timing it before the search too, whose figure only stands where the end
# has no time for turns
UNTUNED_TIMING_SHARE = 0.01
# so long one run of it is waited for: a share of the budget, at least some seconds, in which a
# process may have to load the weights, but of a short budget not more than another share
UNTUNED_WAIT_SHARE = 0.05
UNTUNED_WAIT_S = 10.0
MOST_WAIT_SHARE = 0.5
# and so long for the library of plain schedules that then takes its place
PLAIN_WAIT_SHARE = 0.2
# and the most that ONNX Runtime may take once the untuned library is compiled
ONNXRUNTIME_SHARE = 0.03
# what checking single subgraphs at the end may take at most
CHECK_SHARE = 0.05
# the same where there is no untuned library's output to check the whole with
ALONE_CHECK_SHARE = 0.2
# a budget without an end counts as this many seconds
_LONG_S = 600.0


@dataclass
class EdgeRun:
    """What the untuned library gives on other inputs than the first ones.

    Attributes
    ----------
    name
        ``zeros`` or ``second seed``.
    """

    name: str
    inputs: list[Any]
    outputs: list[Any]


@dataclass
class Reference:
    """The untuned library, or where that is too slow the plain one, and what it gives.

    Attributes
    ----------
    path
        The library: of plain schedules where the untuned one takes too long.
    outputs
        What it gave on `inputs`; None if it could not be run in time.
    run_s
        Seconds of one whole-model run of it; None if it could not be run in time.
    plain
        Whether it is the library of plain schedules.
    retime
        Whether it is the untuned one, quick enough to be run again in turns with the tuned one.
    compile_s
        Seconds that compiling and linking it took.
    loading_s
        Seconds that loading it and its inputs into a process takes.
    edges
        The same for other inputs, where the outputs are finite numbers and there was time.
    onnxruntime
        What ONNX Runtime gave on `inputs`, or one line on why that is not known.
    onnxruntime_error
        Largest relative error of it against ONNX Runtime, None if not known.
    check_s
        The most seconds that checking single subgraphs at the end may take.
    computed_in
        The type that the model's products are computed in.
    """

    path: Path
    inputs: list[Any]
    outputs: list[Any] | None = None
    run_s: float | None = None
    plain: bool = False
    retime: bool = False
    compile_s: float = 0.0
    loading_s: float = 0.0
    folder: Path = field(default_factory=Path)
    edges: list[EdgeRun] = field(default_factory=list)
    onnxruntime: list[Any] | str = "the model did not come from ONNX"
    onnxruntime_error: float | None = None
    check_s: float = CHECK_SHARE * _LONG_S
    computed_in: str = "float32"

    @property
    def seconds(self) -> float | None:
        """Seconds of one run of the untuned library; None if that takes too long."""
        return None if self.plain else self.run_s

    def close(self) -> None:
        """Removes the library."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_reference(
    model: LoadedModel, fused: Any, target: Any, device: str, pool: Any, clock: Clock, seed: int
) -> Reference:
    """Compiles the untuned library, runs it, beside it ONNX Runtime, and times it.

    Where one run takes too large a part of the budget, the plain library takes its place.
    """
    folder = Path(tempfile.mkdtemp(prefix="familyseer-untuned-"))
    made = example_inputs(model.inputs, seed=seed)
    reference = Reference(
        path=folder / "untuned.so",
        inputs=filed([made[spec.name] for spec in model.inputs], folder / "inputs"),
        folder=folder,
        computed_in=model.precision,
    )
    budget_s = min(clock.budget_s if clock.budget_s is not None else math.inf, _LONG_S)
    reference.check_s = CHECK_SHARE * budget_s
    with ExitStack() as stack:
        other = _start_onnxruntime(model, made, reference, stack)
        began = time.monotonic()
        build_library(fused, target, reference.path)
        reference.compile_s = time.monotonic() - began
        if other is not None:
            until = time.monotonic() + min(ONNXRUNTIME_SHARE * budget_s, clock.left_s())
            reference.onnxruntime = _take_onnxruntime(other, until)
    share_s, timing_s = UNTUNED_SHARE * budget_s, UNTUNED_TIMING_SHARE * budget_s

    def tools(wait_s: float) -> tuple[str, Any, Callable[[], float]]:
        until = clock.now() + min(wait_s, clock.left_s())
        return device, pool, lambda: until - clock.now()

    patience_s = max(UNTUNED_WAIT_SHARE * budget_s, UNTUNED_WAIT_S)
    waiting = tools(min(patience_s, MOST_WAIT_SHARE * budget_s))
    try:
        reference.outputs, reference.run_s = _run(reference, reference.inputs, *waiting)
        if (UNTUNED_REPEATS + 1) * reference.run_s <= timing_s:
            _time(reference, timing_s, *waiting)
    except OutOfTimeError:
        waiting = tools(PLAIN_WAIT_SHARE * budget_s)
    try:
        if reference.outputs is None:
            _take_plain(reference, fused, target, *waiting)
        _judge_import(reference)
        reference.retime = reference.seconds is not None and 2 * reference.seconds <= share_s
        if 2 * _whole_s(reference) <= share_s:
            _run_edges(reference, model, seed, *waiting)
    except OutOfTimeError:
        pass
    if reference.outputs is None:
        reference.check_s = ALONE_CHECK_SHARE * budget_s
    return reference


def _take_plain(
    reference: Reference,
    fused: Any,
    target: Any,
    device: str,
    pool: Any,
    time_left: Callable[[], float],
) -> None:
    """Puts the library of plain schedules in the untuned one's place, where there is one."""
    if device != "cpu":
        # the untuned library has default schedules already
        return
    path = reference.folder / "plain.so"
    began = time.monotonic()
    try:
        build_library(fused, target, path, plainly=True)
    except Exception as error:  # whatever a pass or LLVM throws
        log.warning("no plain library can be compiled: %s", str(error).splitlines()[-1:])
        return
    reference.compile_s = max(reference.compile_s, time.monotonic() - began)
    reference.path, reference.plain = path, True
    reference.outputs, reference.run_s = _run(reference, reference.inputs, device, pool, time_left)


def _run(
    reference: Reference, inputs: list[Any], device: str, pool: Any, time_left: Callable[[], float]
) -> tuple[list[Any], float]:
    began = time.monotonic()
    running = pool.submit(_jobs.run_timed, str(reference.path), device, inputs)
    outputs, seconds = await_future(running, time_left)
    reference.loading_s = max(reference.loading_s, time.monotonic() - began - seconds)
    return outputs, seconds


def _whole_s(reference: Reference) -> float:
    """Seconds of a run in a process that has loaded nothing yet, on inputs that are made first."""
    return reference.run_s + 2 * reference.loading_s if reference.run_s is not None else math.inf


def _time(
    reference: Reference, time_s: float, device: str, pool: Any, time_left: Callable[[], float]
) -> None:
    paths = {"untuned": str(reference.path)}
    timing = pool.submit(
        _jobs.time_libraries, paths, device, reference.inputs, UNTUNED_REPEATS, time_s
    )
    reference.run_s = statistics.median(await_future(timing, time_left)["untuned"])


def _start_onnxruntime(
    model: LoadedModel, made: dict[str, Any], reference: Reference, stack: ExitStack
) -> Future[Any] | None:
    """Starts ONNX Runtime in a process of its own while TVM compiles, which takes one core."""
    if model.onnx is None:
        return None
    if model.exact is not None:
        reference.onnxruntime = f"it computes in float32, and this model in {model.precision}"
        return None
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None:
        reference.onnxruntime = "ONNX Runtime is not installed"
        return None
    path = reference.folder / "model.onnx"
    try:
        path.write_bytes(model.onnx.SerializeToString())
    except Exception as error:  # protobuf's own, at 2 GiB
        reference.onnxruntime = f"the model cannot be written for it: {error}"
        return None
    # its threads spin for a while after a run, which would disturb what is timed in the same one
    pool = WorkerPool(1)
    # closing waits for a process that is still starting, which may take longer than anybody should
    stack.callback(threading.Thread(target=pool.close, daemon=True).start)
    future: Future[Any] = pool.submit(_jobs.run_onnx, str(path), made)
    return future


def _take_onnxruntime(future: Future[Any], until: float) -> list[Any] | str:
    try:
        outputs: list[Any] = await_future(future, lambda: until - time.monotonic())
    except OutOfTimeError:
        return "ONNX Runtime took too long"
    except Exception as error:  # an operator or a type that it lacks, or its own crash
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"ONNX Runtime failed: {lines[0][:200]}"
    return outputs


def _judge_import(reference: Reference) -> None:
    if isinstance(reference.onnxruntime, str) or reference.outputs is None:
        return
    theirs = [one.shape for one in reference.onnxruntime]
    if theirs != [one.shape for one in reference.outputs]:
        reference.onnxruntime = "the library's outputs are not those of the ONNX model"
        return
    reference.onnxruntime_error = compare_outputs(reference.outputs, reference.onnxruntime)[1]


def _run_edges(
    reference: Reference,
    model: LoadedModel,
    seed: int,
    device: str,
    pool: Any,
    time_left: Callable[[], float],
) -> None:
    """Runs the library on zeros and on other random inputs."""
    again = example_inputs(model.inputs, seed=seed + 1)
    second = [again[spec.name] for spec in model.inputs]
    # integers are token ids and masks, and a mask of zeros makes a softmax NaN
    zeros = [one * 0 if one.dtype.kind not in "iub" else one for one in reference.inputs]
    cases = [("second seed", second)]
    if any(one.dtype.kind not in "iub" for one in reference.inputs):
        cases.append(("zeros", zeros))
    for name, made in cases:
        inputs = filed(made, reference.folder / name.replace(" ", "-"))
        outputs, _ = _run(reference, inputs, device, pool, time_left)
        if all_finite(outputs):
            reference.edges.append(EdgeRun(name, inputs, outputs))
