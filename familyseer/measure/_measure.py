"""A round's candidates built and run, with our own workers or with any of MetaSchedule's."""

from __future__ import annotations

import logging
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any

from familyseer.measure._confirm import settle
from familyseer.measure._cuda_limits import Resources
from familyseer.measure._failures import describe_failure, one_line
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule

log = logging.getLogger(__name__)

# often enough that Ctrl-C is answered at once, rarely enough to cost nothing
_LOOK_S = 0.2


@dataclass(eq=False)
class Measured:
    """One candidate after its round.

    Attributes
    ----------
    builder_result, runner_result
        As MetaSchedule's measure callbacks get them.
    run_s
        Median seconds of one run; infinity when it failed.
    build_s
        Seconds its build took, 0 if unknown.
    spills
        Whether it spills registers and was measured for want of a better one.
    resources
        What the compiler says it takes of a GPU, refused or not; None elsewhere and if unknown.
    """

    candidate: Any
    builder_result: Any
    runner_result: Any
    run_s: float
    build_s: float = 0.0
    spills: bool = False
    resources: Resources | None = None

    @property
    def build_failed(self) -> bool:
        """Whether it could not be built."""
        return self.builder_result.error_msg is not None

    @property
    def run_failed(self) -> bool:
        """Whether it was built and could not be run."""
        return not self.build_failed and self.runner_result.error_msg is not None

    def retime(self, seconds: list[float]) -> None:
        """Replaces the seconds that were measured, one a repeat."""
        self.runner_result = ms.runner.RunnerResult(seconds, None)
        self.run_s = median_run_s(seconds)

    def discard(self) -> None:
        """Removes the built library."""
        if not self.build_failed:
            folder = os.path.dirname(str(self.builder_result.artifact_path))
            shutil.rmtree(folder, ignore_errors=True)


def await_future(future: Future[Any], time_left: Callable[[], float]) -> Any:
    """The result of a future, or `TimeoutError` once no time is left.

    It looks at the clock again and again, so that a deadline that moves (Ctrl-C) is seen.
    """
    while True:
        left = time_left()
        if left <= 0 and not future.done():
            future.cancel()
            raise OutOfTimeError
        try:
            return future.result(timeout=min(_LOOK_S, max(left, 0.001)))
        except (WaitTimeout, TimeoutError):
            if future.done():
                raise


class OutOfTimeError(Exception):
    """The run's deadline came before a candidate was measured; it is no fault of the candidate."""


def measure(
    schedules: Sequence[Any],
    context: Any,
    builder: Any,
    runner: Any,
    *,
    time_left: Callable[[], float] = lambda: math.inf,
    cutoff_s: float | None = None,
    build_timeout_s: float | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    incumbent: Measured | None = None,
    confirm: bool = False,
    now: Callable[[], float] = time.monotonic,
    group: str | None = None,
    priority: float = 0.0,
    builds: Sequence[Future[Any]] | None = None,
    spilling: bool = False,
) -> tuple[list[Measured], float, float]:
    """Builds, then runs; never both at once, since building disturbs what is timed here.

    A runner with a true `dispatches` times elsewhere: it is given each candidate once it is built.
    One with `start_again` is asked by that to time those that are timed in turns (`_confirm`).

    Parameters
    ----------
    time_left
        Seconds until measuring must stop; candidates not measured by then are left out.
    cutoff_s
        The subgraph's best seconds so far, which spares the slow ones a full measurement.
    build_timeout_s
        A tighter limit on one build than the builder's own.
    meanwhile
        Called once while the candidates build, if the builder builds in the background.
    incumbent
        The subgraph's best candidate so far, its library kept.
    confirm
        Whether a candidate that seems the best is timed again beside the incumbent (`_confirm`).
        The library of the best is then kept: `Measured.discard` removes it.
    now
        The clock that the two wall times are told by.
    group, priority
        For a runner that dispatches: candidates whose times are to be compared, and how many
        subgraphs wait for what they tell.
    builds
        What the builder's `start` gave for each schedule, where that was called before.
    spilling
        Whether the subgraph's best candidate spills registers. As for a subgraph without any, the
        least spilling one is measured where all do.

    Returns
    -------
    measured, build_wall_s, run_wall_s
        The candidates that were measured or failed, and wall-clock seconds of both halves.
    """
    candidates = [ms.MeasureCandidate(sch, _args_info(sch.mod)) for sch in schedules]
    began = now()
    start = _starter(context, runner, cutoff_s, group, priority)
    started: dict[str, Any] = {}

    def on_built(candidate: Any, result: Any) -> None:
        if start is not None and getattr(runner, "dispatches", False):
            started[str(result.artifact_path)] = start(candidate, result)

    if builds is None and hasattr(builder, "start"):
        builds = [builder.start(c.sch.mod, context.target, build_timeout_s) for c in candidates]
    built = _build(candidates, context, builder, time_left, builds, meanwhile, on_built)
    used = _told(builder, "resources", candidates, builds)
    sizes: dict[int, int] = {}
    wanting = cutoff_s is None or spilling
    if wanting and all(result.error_msg is not None for _, result, _ in built):
        sizes = _told(builder, "local_bytes", candidates, builds)
        # once is enough to be told
        tell = log.warning if cutoff_s is None else log.debug
        built = _least_spilling(built, sizes, context, builder, time_left, on_built, tell)
    turned = now()
    ready = [(c, b, s) for c, b, s in built if b.error_msg is None]
    results = _run([(c, b) for c, b, _ in ready], context, runner, time_left, start, started)
    by_path = {b.artifact_path: result for (_, b, _), result in zip(ready, results, strict=True)}
    measured = []
    for candidate, builder_result, build_s in built:
        takes = used.get(id(candidate))
        if builder_result.error_msg is not None:
            failed = ms.runner.RunnerResult(None, builder_result.error_msg)
            measured.append(
                Measured(candidate, builder_result, failed, math.inf, build_s, resources=takes)
            )
            continue
        result = by_path[builder_result.artifact_path]
        if result is not None:
            run_s = math.inf if result.error_msg is not None else median_run_s(result.run_secs)
            spills = id(candidate) in sizes
            measured.append(
                Measured(candidate, builder_result, result, run_s, build_s, spills, takes)
            )
    kept = None
    if confirm:

        def time_again(one: Measured) -> list[float]:
            pair = (one.candidate, one.builder_result)
            again = _starter(context, runner, None, group, priority, again=True)
            result = _run([pair], context, runner, time_left, again, {})[0]
            failed = result is None or result.error_msg is not None
            return [] if failed else [float(s) for s in result.run_secs]

        settle(measured, incumbent, time_again)
        finite = [m for m in measured if math.isfinite(m.run_s)]
        kept = min(finite, key=lambda m: m.run_s, default=None)
    for _, built_one, _ in ready:
        path = str(built_one.artifact_path)
        if kept is None or path != str(kept.builder_result.artifact_path):
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)
    return measured, turned - began, now() - turned


def _args_info(mod: Any) -> Any:
    # of the candidate and not of the subgraph: a schedule may change the layout of its weights
    return ms.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)


def _build(
    candidates: list[Any],
    context: Any,
    builder: Any,
    time_left: Callable[[], float],
    builds: Sequence[Future[Any]] | None,
    meanwhile: Callable[[], None],
    on_built: Callable[[Any, Any], None],
) -> list[tuple[Any, Any, float]]:
    if builds is None:
        inputs = [ms.builder.BuilderInput(c.sch.mod, context.target) for c in candidates]
        results = list(builder.build(inputs))
        if len(results) != len(inputs):
            why = f"build failed: {len(results)} results for {len(inputs)} candidates"
            results = [ms.builder.BuilderResult(None, why) for _ in inputs]
        return [(c, r, 0.0) for c, r in zip(candidates, map(_built, results), strict=True)]
    meanwhile()
    built = []
    for candidate, future in zip(candidates, builds, strict=True):
        try:
            result, seconds = builder.finish(future, time_left)
        except OutOfTimeError:
            continue
        result = _built(result)
        if result.error_msg is None:
            on_built(candidate, result)
        built.append((candidate, result, seconds))
    return built


def _told(
    builder: Any, what: str, candidates: list[Any], builds: Sequence[Future[Any]] | None
) -> dict[int, Any]:
    """What a method of the builder tells of builds, by their candidates' identity, if anything."""
    ask = getattr(builder, what, None)
    if ask is None or builds is None:
        return {}
    told = {id(c): ask(build) for c, build in zip(candidates, builds, strict=True)}
    return {which: one for which, one in told.items() if one}


def _least_spilling(
    built: list[tuple[Any, Any, float]],
    sizes: dict[int, int],
    context: Any,
    builder: Any,
    time_left: Callable[[], float],
    on_built: Callable[[Any, Any], None],
    tell: Callable[..., None],
) -> list[tuple[Any, Any, float]]:
    """The last resort of a subgraph without any schedule: what spills least is built all the same.

    A schedule that spills is slow, but none at all would leave the subgraph to a default one.
    """
    least = min(
        (c for c, _, _ in built if id(c) in sizes), key=lambda c: sizes[id(c)], default=None
    )
    if least is None:
        return built
    future = builder.start(least.sch.mod, context.target, spilling=True)
    try:
        result, seconds = builder.finish(future, time_left)
    except OutOfTimeError:
        return built
    if result.error_msg is None:
        tell(
            "%s: each of %d candidates keeps registers in memory; the one that does least, %d "
            "bytes of a thread, is measured for want of a better one",
            context.task_name,
            len(sizes),
            sizes[id(least)],
        )
        on_built(least, result)
    return [(c, result, seconds) if c is least else (c, r, s) for c, r, s in built]


def _starter(
    context: Any,
    runner: Any,
    cutoff_s: float | None,
    group: str | None,
    priority: float,
    *,
    again: bool = False,
) -> Callable[[Any, Any], Any] | None:
    """How a run is started; None for MetaSchedule's own runners, which take all at once."""
    if not hasattr(runner, "start"):
        return None
    device = device_type(context.target)
    told = {"group": group, "priority": priority} if getattr(runner, "dispatches", False) else {}
    start = getattr(runner, "start_again", runner.start) if again else runner.start
    return lambda candidate, built: start(
        str(built.artifact_path), device, candidate.args_info, cutoff_s, **told
    )


def _run(
    ready: list[tuple[Any, Any]],
    context: Any,
    runner: Any,
    time_left: Callable[[], float],
    start: Callable[[Any, Any], Any] | None,
    started: dict[str, Any],
) -> list[Any]:
    if start is None:
        device = device_type(context.target)
        inputs = [ms.runner.RunnerInput(b.artifact_path, device, c.args_info) for c, b in ready]
        waiting = list(runner.run(inputs))
        if len(waiting) != len(inputs):
            why = f"run failed: {len(waiting)} results for {len(inputs)} candidates"
            return [ms.runner.RunnerResult(None, why) for _ in inputs]
        return [_ran(future.result) for future in waiting]
    futures = [started.get(str(b.artifact_path)) or start(c, b) for c, b in ready]
    results: list[Any] = []
    for future in futures:
        try:
            results.append(_ran(partial(runner.finish, future, time_left)))
        except OutOfTimeError:
            results.append(None)
    return results


def _built(result: Any) -> Any:
    """A builder's result, a failure if it names no library."""
    if result.error_msg is None and result.artifact_path is None:
        return ms.builder.BuilderResult(None, "build failed: neither a library nor a reason")
    return result


def _ran(finish: Callable[[], Any]) -> Any:
    """A runner's result, a failure if its times are none; whatever the runner."""
    try:
        result = finish()
        if result.error_msg is not None:
            return result
        seconds = [float(s) for s in result.run_secs or ()]
    except OutOfTimeError:
        raise
    except Exception as error:  # one candidate's, whatever its type
        return ms.runner.RunnerResult(None, describe_failure("run", error))
    if seconds and all(0.0 < s < math.inf for s in seconds):
        return result
    told = ", ".join(f"{s:g}" for s in seconds) or "none"
    return ms.runner.RunnerResult(None, one_line(f"run failed: impossible seconds: {told}"))


def device_type(target: Any) -> str:
    """TVM's name of the device that a target's code runs on."""
    kind = str(target.kind.name)
    return "cpu" if kind in ("llvm", "c") else kind


def median_run_s(run_secs: Any) -> float:
    """The seconds that a candidate is judged by: the median of its repeats."""
    return statistics.median(float(s) for s in run_secs)
