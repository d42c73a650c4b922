"""The end of a run: check the best schedules, compile them, check the library, fall back."""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.check import Checker, Verdict
from familyseer.export import _jobs
from familyseer.export._compile import apply_records, best_records, build_library
from familyseer.export._verify import compare_outputs, tolerance
from familyseer.measure import WorkerPool
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.run._reference import Reference
from familyseer.search import Clock, TaskState
from familyseer.subgraphs import Subgraph

log = logging.getLogger(__name__)

COMPARE_REPEATS = 20
# what the end of a run may take beyond the budget before it gives up checking: well inside the
# ten seconds or ten per cent that a run may be late
GRACE_S = 5.0
# runs of the untuned library beside the tuned one: to warm up, and two turns
_UNTUNED_TURNS = 3
# a library is loaded for its check and for the turns
_LOADINGS = 2
# how often the reference of a subgraph runs it, and how many times longer denormal numbers take
_REFERENCE_RUNS = 12


@dataclass
class Finished:
    """What the end of a run found out.

    Attributes
    ----------
    fell_back
        Names of subgraphs left at a plain schedule, or at a slower one than their best, with the
        reason.
    quarantined
        Schedules found wrong in the whole run, while it tuned and at its end: ``subgraph`` (name),
        ``reason``, and ``file``, the reproducer's path or None.
    unchecked
        Names of subgraphs whose shipped schedule was checked as a part of the library alone.
    not_compared
        Why the library was not compared with the untuned or the plain one; empty if it was.
    onnxruntime
        Why the library was not compared with ONNX Runtime, or what the comparison found in words;
        empty if it was and agrees.
    max_rel_error_onnxruntime
        Largest relative error of the shipped library against ONNX Runtime, None if not compared.
    """

    tuned_s: float | None = None
    untuned_s: float | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    fell_back: dict[str, str] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    not_compared: str = ""
    onnxruntime: str = ""
    max_rel_error_onnxruntime: float | None = None


def reserve_s(
    states: list[TaskState], reference: Reference, checker: Checker | None = None
) -> float:
    """Seconds to keep for the end: checking and compiling every best schedule, timing.

    A subgraph's best schedule takes about as long to compile in the model as it did alone. What
    checking takes is known from what was checked while tuning; before that, the subgraphs alone
    compile and run about as long as the untuned library does.

    Parameters
    ----------
    checker
        The one that the search was given, None if it had none.
    """
    compiling = reference.compile_s + sum(s.build_s for s in states)
    whole_runs = (4 + len(reference.edges)) * _tuned_run_s(states, reference)
    whole_runs += (_LOADINGS + len(reference.edges)) * reference.loading_s
    if reference.retime:
        whole_runs += _UNTUNED_TURNS * (reference.seconds or 0.0)
    waiting = [s.subgraph for s in states if s.covered]
    checking = checker.expected_s(waiting) if checker is not None else None
    if checking is None:
        checking = reference.compile_s + _REFERENCE_RUNS * (reference.run_s or 0.0)
    return 1.25 * compiling + whole_runs + min(checking, reference.check_s) + 1.5


def _tuned_run_s(states: list[TaskState], reference: Reference) -> float:
    """Seconds of the library that would be shipped now."""
    untuned_s = reference.run_s or 0.0
    # what is not covered takes about its part of that
    flops = sum(s.subgraph.flops * s.subgraph.weight for s in states) or 1.0
    waiting = sum(s.subgraph.flops * s.subgraph.weight for s in states if not s.covered) / flops
    tuned_s = sum(s.best_s * s.subgraph.weight for s in states if s.covered)
    return min(tuned_s + waiting * untuned_s, untuned_s)


def time_for_end(clock: Clock) -> Callable[[], float]:
    """Seconds left for the end of a run that begins now; unlike the clock's, they run out.

    Measuring that was ended by Ctrl-C, or late, still ends with a checked library.
    """
    until = time.monotonic() + max(clock.left_s(), 0.0) + GRACE_S
    return lambda: until - time.monotonic()


class Finisher:
    """Checks the best schedules, compiles the tuned library, and checks that.

    Parameters
    ----------
    pool
        A worker process, since a wrong library may crash whoever runs it.
    checker
        The one that the search was given, which knows what is right already. By default one of its
        own, whose reproducers go to the folder ``quarantine`` beside the library.
    vector_math
        Whether the tuned library computes exp and the like as `familyseer.vector_math` says.
    """

    def __init__(
        self,
        fused: Any,
        target: Any,
        device: str,
        reference: Reference,
        pool: WorkerPool,
        clock: Clock,
        on_phase: Callable[[str], None] = lambda _: None,
        checker: Checker | None = None,
        vector_math: bool = False,
    ) -> None:
        self.fused = fused
        self.target = target
        self.device = device
        self.reference = reference
        self.pool = pool
        self.clock = clock
        self.on_phase = on_phase
        self.checker = checker
        self.vector_math = vector_math
        self._attempts = 0
        self._time_left: Callable[[], float]

    def finish(self, subgraphs: list[Subgraph], database: Any, path: Path) -> Finished:
        """Writes the best library that is right to `path`.

        A library whose outputs are wrong is never written: the subgraphs at fault take their next
        best schedule or fall back, and if none is found guilty the reference is shipped: the
        untuned library, or the plain one.
        """
        self._time_left = time_for_end(self.clock)
        with ExitStack() as stack:
            checker = self.checker
            if checker is None:
                folder = path.parent / "quarantine"
                checker = Checker(self.target, self.device, self.pool, quarantine=folder)
                stack.callback(checker.close)
            end = self._finish(subgraphs, database, path, checker)
            end.quarantined = list(checker.quarantined)
            return end

    def _finish(
        self, subgraphs: list[Subgraph], database: Any, path: Path, checker: Checker
    ) -> Finished:
        end = Finished(untuned_s=self.reference.seconds)
        records = best_records(database, subgraphs)
        for subgraph in subgraphs:
            if subgraph.index not in records:
                end.fell_back[subgraph.name] = "no candidate was measured in time"
        if not records:
            return self._ship_untuned(path, end)
        self.on_phase("checking")
        until = time.monotonic() + min(self.reference.check_s, self._time_left())
        chosen = self._choose(
            subgraphs,
            records,
            end,
            checker,
            lambda: until - time.monotonic(),
            # where the untuned library gave nothing to compare with, nothing else would judge
            trusting=self.reference.outputs is not None,
        )
        self.on_phase("compiling")
        reason = "the tuned library gave wrong outputs"
        try:
            if self._build_and_check(chosen, path, end):
                return end
            log.warning("the tuned library is wrong; looking for the subgraph at fault")
            chosen = self._choose(subgraphs, records, end, checker, self._time_left, trusting=False)
            if self._build_and_check(chosen, path, end):
                return end
        except OutOfTimeError:
            reason = "there was no time left to check the tuned library"
        for subgraph in subgraphs:
            end.fell_back[subgraph.name] = reason
        end.unchecked = []
        return self._ship_untuned(path, end)

    def _ship_untuned(self, path: Path, end: Finished) -> Finished:
        shutil.copy(self.reference.path, path)
        end.tuned_s, end.max_abs_error, end.max_rel_error = self.reference.run_s, 0.0, 0.0
        self._judge_onnxruntime(self.reference.outputs, end)
        return end

    def _choose(
        self,
        subgraphs: list[Subgraph],
        records: dict[int, list[Any]],
        end: Finished,
        checker: Checker,
        time_left: Callable[[], float],
        *,
        trusting: bool,
    ) -> dict[int, Any]:
        """For each subgraph its fastest schedule that is not wrong, by the subgraph's index.

        Where a schedule cannot be checked, `trusting` takes it, for the library's check to judge.
        """
        chosen = {}
        end.unchecked = []
        for subgraph in subgraphs:
            reason = ""
            for record in records.get(subgraph.index, []):
                verdict = checker.check(subgraph, record.trace, time_left=time_left)
                if verdict.right or (trusting and not verdict.wrong):
                    chosen[subgraph.index] = record
                    if not verdict.right:
                        end.unchecked.append(subgraph.name)
                    break
                reason = reason or _fallen(verdict)
            if reason:
                end.fell_back[subgraph.name] = reason
        return chosen

    def _build_and_check(self, chosen: dict[int, Any], path: Path, end: Finished) -> bool:
        # never the same name twice: a process that has loaded a library under a name is given
        # the same one again, whatever the file holds by then
        self._attempts += 1
        candidate = path.with_name(f".candidate-{os.getpid()}-{self._attempts}.so")
        try:
            build_library(
                apply_records(self.fused, self.target, chosen.values()),
                self.target,
                candidate,
                plainly=True,
                vector_math=self.vector_math,
            )
        except Exception as error:  # whatever a pass or LLVM throws at a bad schedule
            log.warning("the tuned library cannot be compiled: %s", str(error).splitlines()[-1:])
            return False
        self.on_phase("checking")
        try:
            right = self._right_in_time(candidate, end)
            if right:
                candidate.replace(path)
            return right
        finally:
            candidate.unlink(missing_ok=True)

    def _right_in_time(self, library: Path, end: Finished) -> bool:
        """As `_check`; where there was no time for that, whether each schedule is right."""
        try:
            return self._check(library, end)
        except OutOfTimeError:
            if end.unchecked:
                raise
            end.not_compared = "there was no time left to run it; its schedules are right"
            return True

    def _check(self, library: Path, end: Finished) -> bool:
        inputs, paths = self.reference.inputs, {"tuned": str(library)}
        try:
            outputs = self._run(library, inputs)
        except OutOfTimeError:
            raise
        except Exception as error:  # a crash, a hang, a refusal: each means a wrong library
            log.warning("the tuned library cannot be run: %s", error)
            return False
        if self.reference.outputs is None:
            end.not_compared = "the untuned library is too slow; its schedules are right"
        else:
            end.max_abs_error, end.max_rel_error, right = compare_outputs(
                outputs, self.reference.outputs, self.reference.computed_in
            )
            if not right or not self._right_at_the_edges(library, end):
                return False
            if self.reference.retime:
                paths["untuned"] = str(self.reference.path)
        if not self._judge_onnxruntime(outputs, end):
            return False
        time_s = max(0.2, min(10.0, 0.5 * self.clock.left_s()))
        timing = self.pool.submit(
            _jobs.time_libraries, paths, self.device, inputs, COMPARE_REPEATS, time_s
        )
        try:
            times = await_future(timing, self._time_left)
        except OutOfTimeError:
            return True
        end.tuned_s = statistics.median(times["tuned"])
        if "untuned" in times:
            end.untuned_s = statistics.median(times["untuned"])
        return True

    def _run(self, library: Path, inputs: list[Any]) -> list[Any]:
        running = self.pool.submit(_jobs.run_library, str(library), self.device, inputs)
        outputs: list[Any] = await_future(running, self._time_left)
        return outputs

    def _right_at_the_edges(self, library: Path, end: Finished) -> bool:
        for edge in self.reference.edges:
            try:
                outputs = self._run(library, edge.inputs)
            except OutOfTimeError:
                return True
            except Exception as error:  # as above
                log.warning("the tuned library cannot be run on %s: %s", edge.name, error)
                return False
            off, relative, right = compare_outputs(
                outputs, edge.outputs, self.reference.computed_in
            )
            if not right:
                log.warning("the tuned library is wrong on %s: %.3g", edge.name, relative)
                return False
            end.max_abs_error = max(end.max_abs_error or 0.0, off)
            end.max_rel_error = max(end.max_rel_error or 0.0, relative)
        return True

    def _judge_onnxruntime(self, outputs: list[Any] | None, end: Finished) -> bool:
        """Compares with ONNX Runtime; False if tuning is to blame for a difference."""
        theirs, untuned = self.reference.onnxruntime, self.reference.onnxruntime_error
        if isinstance(theirs, str) or untuned is None or outputs is None:
            end.onnxruntime = theirs if isinstance(theirs, str) else "the library was not run"
            return True
        end.max_rel_error_onnxruntime = relative = compare_outputs(outputs, theirs)[1]
        allowed = max((tolerance(str(one.dtype)) for one in theirs), default=0.0)
        if not untuned <= allowed:
            end.onnxruntime = (
                f"the untuned library is off by {untuned:.3g} already (importing the model is at "
                "fault, not tuning)"
            )
            log.warning("compared with ONNX Runtime, %s", end.onnxruntime)
            return True
        # the two may be off to different sides
        return relative <= allowed + untuned


def _fallen(verdict: Verdict) -> str:
    if not verdict.wrong:
        return f"its schedule could not be checked ({verdict.reason})"
    return f"its schedule gave wrong results ({verdict.reason.removeprefix('wrong result: ')})"
