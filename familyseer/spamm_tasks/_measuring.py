"""Configurations built and timed by the worker pools that build and time schedules.

Both classes have what `familyseer.measure._measure.measure` asks of a builder and a runner: `start`
and `finish`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from familyseer.errors import RunError
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._builder import _remove
from familyseer.measure._jobs import Refused
from familyseer.measure._measure import await_future
from familyseer.measure._timing import MOST_BYTES, RunPlan
from familyseer.spamm_tasks._jobs import write_operands
from familyseer.spamm_tasks._kinds import Kind, Values
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import config_of

# reading the operands and the product in full, by which candidates are checked, are part of a run
_RUN_LIMIT_S = 120.0
_DUEL_LIMIT_S = 300.0
# a product takes milliseconds and all cores, so it is disturbed by whatever else runs: they are
# timed for longer than subgraphs, whose kernels are many times shorter
_REPEATS, _REPEAT_MS = 3, 40.0


class ConfigBuilder:
    """Builds the kernels of one problem's configurations.

    Parameters
    ----------
    task
        The problem.
    a, b
        Its matrices, which runs will need.
    workers
        Builds at a time; None for one a core.

    Raises
    ------
    RunError
        There is no room for the matrices.
    """

    def __init__(self, task: SpammTask, a: Any, b: Any, workers: int | None) -> None:
        self._task = task
        self._warm = WarmBuilder(workers=workers)
        self.kernels = tempfile.mkdtemp(dir=self._warm.folder)
        self._operands = tempfile.mkdtemp(dir=self._warm.folder)
        try:
            write_operands(Path(self._operands), a, b)
        except OSError as error:
            self.close()
            raise RunError(
                f"{self._operands}: the matrices cannot be written ({error.strerror}); expected "
                f"room for {a.nbytes + b.nbytes} bytes"
            ) from None

    def start(self, mod: Any, _target: Any, _timeout_s: float | None = None) -> Future[Any]:
        """Starts a build; see `finish`.

        How long builds usually take says nothing of the next one, since many candidates share a
        kernel, which is compiled once.
        """
        config = config_of(mod) or self._task.default
        own = tempfile.mkdtemp(dir=self._warm.folder)
        future = self._warm.pool.submit(
            self._task.kind.build_job,
            config,
            self._task.tau(config),
            self._task.problem.dtype,
            own,
            self.kernels,
            self._operands,
            timeout_s=self._warm.timeout_s,
        )

        def clear_away(done: Future[Any]) -> None:
            failed = done.cancelled() or done.exception() is not None
            if failed or isinstance(done.result(), Refused):
                _remove(own)

        future.add_done_callback(clear_away)
        return future

    def build(self, config: Values) -> str | None:
        """Builds one configuration now and gives its path; None where that fails."""
        result, _ = self.finish(self.start(self._task.schedule(config).mod, None))
        return None if result.error_msg is not None else str(result.artifact_path)

    def finish(
        self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf
    ) -> tuple[Any, float]:
        """As `familyseer.measure.WarmBuilder.finish`."""
        return self._warm.finish(future, time_left)

    def close(self) -> None:
        """Stops the workers and removes what they built, and the operands."""
        self._warm.close()


class ConfigRunner:
    """Times configurations in one warm process, one at a time, on cold data.

    Parameters
    ----------
    kind
        The backend.
    kernels
        Where the builder keeps compiled kernels.
    """

    def __init__(self, kind: Kind, kernels: str) -> None:
        self._kind, self._kernels = kind, kernels
        # whoever multiplies does other work in between, and finds little of the operands cached
        plan = RunPlan(repeats=_REPEATS, repeat_ms=_REPEAT_MS, working_set_bytes=MOST_BYTES)
        self._warm = WarmRunner(timeout_s=_RUN_LIMIT_S, plan=plan)

    def start(
        self, path: str, _device_type: str, _args_info: Any, cutoff_s: float | None = None
    ) -> Future[Any]:
        """Starts one run; see `finish`."""
        return self._submit(path, replace(self._warm.plan, cutoff_s=cutoff_s))

    def start_again(
        self, path: str, _device_type: str, _args_info: Any, _cutoff_s: float | None = None
    ) -> Future[Any]:
        """Starts a shorter run, for candidates that are timed several times in turns."""
        return self._submit(path, replace(self._warm.plan, repeats=1))

    def _submit(self, path: str, plan: RunPlan) -> Future[Any]:
        return self._warm.pool.submit(
            self._kind.run_job, path, self._kernels, plan, timeout_s=self._warm.timeout_s
        )

    def finish(self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf) -> Any:
        """As `familyseer.measure.WarmRunner.finish`."""
        return self._warm.finish(future, time_left)

    def duel(self, paths: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
        """Seconds of some candidates, measured in turns."""
        future = self._warm.pool.submit(
            self._kind.duel_job, dict(paths), self._kernels, rounds, timeout_s=_DUEL_LIMIT_S
        )
        found: dict[str, list[float]] = await_future(future, lambda: math.inf)
        return found

    def close(self) -> None:
        """Stops the process."""
        self._warm.close()
