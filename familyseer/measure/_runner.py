"""A MetaSchedule runner on this machine: one warm process, one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from familyseer.measure._failures import describe_failure
from familyseer.measure._jobs import hashable_args_info, run_candidate
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.measure._timing import RunPlan
from familyseer.measure._workers import WorkerPool
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PyRunner: Any = ms.runner.PyRunner
_PyRunnerFuture: Any = ms.runner.PyRunnerFuture


@tvm.ir.utils.derived_object
class WarmRunner(_PyRunner):
    """Runs candidates in a warm process; use it as `runner=` of any MetaSchedule tuner.

    One candidate runs at a time, since a candidate may use every core. A candidate that crashes
    or hangs takes only the process with it, and the next one gets a new process.

    Parameters
    ----------
    timeout_s
        Longest time for one candidate, in seconds.
    plan
        How long candidates are measured; its `cutoff_s` can be set for each call of `start`.
    memory_mib
        Most memory of the process, in MiB; see `WorkerPool`.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 10.0,
        plan: RunPlan | None = None,
        memory_mib: int | None = None,
    ) -> None:
        super().__init__()
        self.timeout_s = timeout_s
        self.plan = plan or RunPlan()
        self.pool = WorkerPool(1, calls_per_worker=400, memory_mib=memory_mib)

    def start(
        self, path: str, device_type: str, args_info: Any, cutoff_s: float | None = None
    ) -> Future[Any]:
        """Starts one run; see `finish`."""
        return self.pool.submit(
            run_candidate,
            path,
            device_type,
            hashable_args_info(args_info),
            replace(self.plan, cutoff_s=cutoff_s),
            timeout_s=self.timeout_s,
        )

    def finish(self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf) -> Any:
        """Waits for a run and gives its `RunnerResult`.

        Raises
        ------
        OutOfTimeError
            `time_left()` came to nothing first; the run is given up.
        """
        return finish_run(future, time_left, self.plan.repeats)

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        """Starts all inputs and gives a future for each, as MetaSchedule's runners do."""
        return start_all(self, runner_inputs)

    def close(self) -> None:
        """Stops the process."""
        self.pool.close()


def finish_run(
    future: Future[Any], time_left: Callable[[], float], repeats: int | None = None
) -> Any:
    """Waits for the seconds of a run and gives its `RunnerResult`.

    Parameters
    ----------
    repeats
        How many figures there are where there is more than one; None for any number.

    Raises
    ------
    OutOfTimeError
        `time_left()` came to nothing first; the run is given up.
    """
    try:
        seconds = await_future(future, time_left)
        if repeats is not None and len(seconds) not in (1, repeats):
            raise ValueError(f"{len(seconds)} times measured, {repeats} asked for")
        return ms.runner.RunnerResult(seconds, None)
    except OutOfTimeError:
        raise
    except Exception as error:  # a candidate's failure is a result, whatever its type
        return ms.runner.RunnerResult(None, describe_failure("run", error))


def start_all(runner: Any, runner_inputs: list[Any]) -> list[Any]:
    """Starts all inputs with a runner's `start`; the futures are MetaSchedule's."""
    return [
        _RunnerFuture(
            runner, runner.start(str(one.artifact_path), str(one.device_type), one.args_info)
        )
        for one in runner_inputs
    ]


@tvm.ir.utils.derived_object
class _RunnerFuture(_PyRunnerFuture):
    def __init__(self, runner: Any, future: Future[Any]) -> None:
        super().__init__()
        self.runner = runner
        self.future = future

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> Any:
        return self.runner.finish(self.future)
