"""From a trace to a schedule that can be built: applied, then postprocessed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from familyseer.search._decisions import Decisions
from familyseer.search._sketch import Sketch
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
serialization = importlib.import_module("tvm_ffi.serialization")


Job = tuple[Sketch, Decisions, int]


def apply_trace(context: Any, trace: Any, seed: int, mod: Any = None) -> Any | None:
    """A subgraph scheduled by a trace, or None where the trace or its postprocessing fails.

    Parameters
    ----------
    context
        A tuning context with an initialised space generator, whose postprocessors are used.
    seed
        Of the decisions that the trace leaves open, at least 1.
    mod
        Scheduled in place of the context's module: a copy of it.
    """
    mod = context.mod if mod is None else mod
    schedule = tvm.s_tir.Schedule(mod, seed=seed, error_render_level="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=True)
        schedule.enter_postproc()
        for postproc in context.space_generator.postprocs:
            if not postproc.apply(schedule):
                return None
    except (tvm.s_tir.ScheduleError, RuntimeError, ValueError, IndexError):
        return None
    return schedule


def apply_decisions(
    context: Any, sketch: Sketch, vector: Decisions, seed: int, mod: Any = None
) -> Any | None:
    """As `apply_trace`, from a vector of decisions."""
    return apply_trace(context, sketch.trace(vector), seed, mod)


class Applier:
    """Applies many vectors of decisions to one subgraph, side by side.

    TVM lets other threads run meanwhile, so as many of them work as the context may use. What comes
    out does not depend on their number.

    Parameters
    ----------
    context
        A tuning context with an initialised space generator.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._text = ""

    def apply(self, jobs: Sequence[Job]) -> list[Any | None]:
        """As `apply_decisions` of each sketch, vector and seed, in order."""
        context = self._context
        most = int(context.num_threads)
        threads = min(most, len(jobs))
        if threads < 2:
            return [apply_decisions(context, *job) for job in jobs]

        def work(first: int, mod: Any) -> list[Any | None]:
            return [apply_decisions(context, *job, mod) for job in jobs[first::threads]]

        done: list[Any | None] = [None] * len(jobs)
        mods = [self._copy() for _ in range(threads)]
        for first, schedules in enumerate(_pool(most).map(work, range(threads), mods)):
            done[first::threads] = schedules
        return done

    def _copy(self) -> Any:
        """A module for one thread: schedules made side by side must not share one.

        MetaSchedule's own threads have their copies, too. TVM's `load_json` would take seven times
        as long, for it looks in Python for what older versions wrote.
        """
        if not self._text:
            self._text = serialization.to_json_graph_str(self._context.mod)
        return serialization.from_json_graph_str(self._text)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="familyseer-apply")
