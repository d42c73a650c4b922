"""The end of a run: compile the best schedules, check the library, fall back where it is wrong."""

from __future__ import annotations

import logging
import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.export import _jobs
from familyseer.export._compile import apply_records, best_records, build_library
from familyseer.export._verify import compare_outputs, tolerance
from familyseer.measure import WorkerPool
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.run._reference import Reference
from familyseer.search import Clock, TaskState
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)

COMPARE_REPEATS = 20
# what the end of a run may take beyond the budget before it gives up checking: well inside the
# ten seconds or ten per cent that a run may be late
GRACE_S = 5.0


@dataclass
class Finished:
    """What the end of a run found out.

    Attributes
    ----------
    fell_back
        Names of subgraphs left at their default schedule, with the reason.
    """

    tuned_s: float | None = None
    untuned_s: float | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    fell_back: dict[str, str] = field(default_factory=dict)
    quarantined: list[Any] = field(default_factory=list)


def reserve_s(states: list[TaskState], reference: Reference) -> float:
    """Seconds to keep for the end: compiling every best schedule, checking, timing.

    A subgraph's best schedule takes about as long to compile in the model as it did alone.
    """
    compiling = reference.compile_s + sum(s.build_s for s in states)
    running = 4 * (reference.seconds or 0.0)
    return 1.25 * compiling + running + 1.5


class Finisher:
    """Compiles and checks the tuned library.

    Parameters
    ----------
    pool
        A worker process, since a wrong library may crash whoever runs it.
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
    ) -> None:
        self.fused = fused
        self.target = target
        self.device = device
        self.reference = reference
        self.pool = pool
        self.clock = clock
        self.on_phase = on_phase
        self._attempts = 0

    def finish(self, subgraphs: list[Subgraph], database: Any, path: Path) -> Finished:
        """Writes the best library that is right to `path`.

        A library whose outputs are wrong is never written: the subgraphs at fault take their next
        best schedule or fall back, and if none is found guilty the untuned library is shipped.
        """
        end = Finished(untuned_s=self.reference.seconds)
        records = best_records(database, subgraphs)
        for subgraph in subgraphs:
            if subgraph.index not in records:
                end.fell_back[subgraph.name] = "no candidate was measured in time"
        chosen = {index: found[0] for index, found in records.items()}
        if self._build_and_check(chosen, path, end):
            return end
        log.warning("the tuned library is wrong; looking for the subgraph at fault")
        chosen = self._without_the_guilty(subgraphs, records, end)
        if self._build_and_check(chosen, path, end):
            return end
        for subgraph in subgraphs:
            end.fell_back[subgraph.name] = "the tuned library gave wrong outputs"
        shutil.copy(self.reference.path, path)
        end.tuned_s, end.max_abs_error, end.max_rel_error = self.reference.seconds, 0.0, 0.0
        return end

    def _time_left(self) -> float:
        # measuring ended by Ctrl-C still ends with a checked library
        return max(self.clock.left_s(), 0.0) + GRACE_S

    def _build_and_check(self, chosen: dict[int, Any], path: Path, end: Finished) -> bool:
        # never the same name twice: a process that has loaded a library under a name is given
        # the same one again, whatever the file holds by then
        self._attempts += 1
        candidate = path.with_name(f".candidate-{os.getpid()}-{self._attempts}.so")
        try:
            build_library(
                apply_records(self.fused, self.target, chosen.values()), self.target, candidate
            )
        except Exception as error:  # whatever a pass or LLVM throws at a bad schedule
            log.warning("the tuned library cannot be compiled: %s", str(error).splitlines()[-1:])
            return False
        self.on_phase("checking")
        try:
            right = self._check(candidate, end)
            if right:
                candidate.replace(path)
            return right
        finally:
            candidate.unlink(missing_ok=True)

    def _check(self, library: Path, end: Finished) -> bool:
        inputs, paths = self.reference.inputs, {"tuned": str(library)}
        try:
            running = self.pool.submit(_jobs.run_library, str(library), self.device, inputs)
            outputs = await_future(running, self._time_left)
        except Exception as error:  # a crash, a hang, a refusal: each means a wrong library
            log.warning("the tuned library cannot be run: %s", error)
            return False
        if self.reference.outputs is not None:
            end.max_abs_error, end.max_rel_error, right = compare_outputs(
                outputs, self.reference.outputs
            )
            if not right:
                return False
            paths["untuned"] = str(self.reference.path)
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

    def _without_the_guilty(
        self, subgraphs: list[Subgraph], records: dict[int, list[Any]], end: Finished
    ) -> dict[int, Any]:
        """For each subgraph its fastest schedule that is right on its own."""
        chosen = {}
        for subgraph in subgraphs:
            for record in records.get(subgraph.index, []):
                error = self._error_of(subgraph, record)
                if error <= tolerance(_dtype(subgraph.mod)):
                    chosen[subgraph.index] = record
                    break
                end.quarantined.append(record)
                end.fell_back[subgraph.name] = (
                    f"its schedule gave wrong results (relative error {error:.3g})"
                )
        return chosen

    def _error_of(self, subgraph: Subgraph, record: Any) -> float:
        schedule = load_tvm().s_tir.Schedule(subgraph.mod)
        try:
            record.trace.apply_to_schedule(schedule, remove_postproc=False)
            comparing = self.pool.submit(
                _jobs.compare_schedules, subgraph.mod, schedule.mod, self.target, 0, timeout_s=20.0
            )
            return float(await_future(comparing, self._time_left))
        except Exception as error:  # crashed, hung, cannot be built: as wrong as wrong results
            log.warning("%s cannot be checked: %s: %s", subgraph.name, type(error).__name__, error)
            return float("inf")


def _dtype(mod: Any) -> str:
    """Element type of a subgraph's result, its last argument."""
    return str(mod["main"].params[-1].ty.dtype)
