"""What `measure` gives, written down while a run tunes and told again when it is replayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from familyseer.decisions._log import Told
from familyseer.measure._cuda_limits import Resources
from familyseer.measure._measure import Measured, measure, median_run_s
from familyseer.records._book import plain
from familyseer.records._files import FAILED_S
from familyseer.tvm_env import load_tvm

ms = load_tvm().s_tir.meta_schedule

Result = tuple[list[Measured], float, float]
# names no file: nothing is built, and nothing of what is thrown away afterwards exists
_NO_ARTIFACT = "/nonexistent/candidate.so"


class LoggedMeasure:
    """Measures, and keeps what the records will not hold until it is written down."""

    def __init__(self) -> None:
        self._told: list[Told] = []

    def take(self) -> list[Told]:
        """What was measured since the last call."""
        taken, self._told = self._told, []
        return taken

    def __call__(self, schedules: Sequence[Any], context: Any, *args: Any, **kwargs: Any) -> Result:
        """As `familyseer.measure._measure.measure`."""
        done, build_s, run_s = measure(schedules, context, *args, **kwargs)
        self._told.append(
            Told(
                subgraph=str(context.task_name),
                planned=len(schedules),
                measured=tuple(_positions(schedules, done)),
                failed=tuple(_failure(one) for one in done),
                build_s=tuple(one.build_s for one in done),
                wall_s=(build_s, run_s),
                resources=_resources(done),
            )
        )
        return done, build_s, run_s


def _positions(schedules: Sequence[Any], done: Sequence[Measured]) -> Iterator[int]:
    """Where each measured candidate stands among the planned ones, whose order it keeps."""
    position = 0
    for one in done:
        while not schedules[position].same_as(one.candidate.sch):
            position += 1
        yield position
        position += 1


def _resources(done: Sequence[Measured]) -> tuple[Resources | None, ...]:
    found = tuple(one.resources for one in done)
    return found if any(found) else ()


def _failure(one: Measured) -> str | None:
    if one.build_failed:
        return "build"
    return "run" if one.run_failed else None


class RetoldMeasure:
    """Measures nothing: gives what a log and its records say was measured.

    Parameters
    ----------
    next_told
        The next call in the log.
    next_record
        The next record, as `(trace, run_secs)` of its JSON.
    differ
        Called with a line of text where this run would measure something else; it raises.
    """

    def __init__(
        self,
        next_told: Callable[[], Told],
        next_record: Callable[[], tuple[Any, list[float]]],
        differ: Callable[[str], None],
    ) -> None:
        self._next_told = next_told
        self._next_record = next_record
        self._differ = differ

    def __call__(
        self,
        schedules: Sequence[Any],
        context: Any,
        *_workers: Any,
        meanwhile: Callable[[], None] = lambda: None,
        **_limits: Any,
    ) -> Result:
        """As `familyseer.measure._measure.measure`."""
        told, name = self._next_told(), str(context.task_name)
        # the next round was planned while this one was built, before its results were known
        meanwhile()
        if told.subgraph != name:
            self._differ(f"{name} would be measured, and {told.subgraph} was")
        if told.planned != len(schedules):
            self._differ(
                f"{name}: {len(schedules)} candidates are planned, and {told.planned} were"
            )
        done = []
        takes = told.resources or (None,) * len(told.measured)
        for position, failed, build_s, resources in zip(
            told.measured, told.failed, told.build_s, takes, strict=True
        ):
            trace, run_secs = self._next_record()
            candidate = ms.MeasureCandidate(
                schedules[position],
                ms.arg_info.ArgInfo.from_entry_func(schedules[position].mod, remove_preproc=True),
            )
            if not same_trace(candidate.sch.trace, trace):
                self._differ(f"{name}: candidate {position + 1} of {told.planned} is another one")
            done.append(_measured(candidate, run_secs, failed, build_s))
            done[-1].resources = resources
        return done, *told.wall_s


def _measured(
    candidate: Any, run_secs: list[float], failed: str | None, build_s: float
) -> Measured:
    # a record may have been found wrong after it was measured, which its time says
    failed = failed or (None if median_run_s(run_secs) < FAILED_S else "run")
    built = ms.builder.BuilderResult(
        None if failed == "build" else _NO_ARTIFACT, "as recorded" if failed == "build" else None
    )
    if failed is None:
        ran = ms.runner.RunnerResult(run_secs, None)
        return Measured(candidate, built, ran, median_run_s(run_secs), build_s)
    return Measured(
        candidate, built, ms.runner.RunnerResult(None, "as recorded"), math.inf, build_s
    )


def same_trace(trace: Any, recorded: Any) -> bool:
    """Whether a trace is the recorded one, given as the JSON of its record."""
    return bool(plain(trace.as_json()) == recorded)
