"""From a trace to a schedule that can be built: applied, then postprocessed."""

from __future__ import annotations

from typing import Any

from familyseer.search._decisions import Decisions
from familyseer.search._sketch import Sketch
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)


def apply_trace(context: Any, trace: Any, seed: int) -> Any | None:
    """A subgraph scheduled by a trace, or None where the trace or its postprocessing fails.

    Parameters
    ----------
    context
        A tuning context with an initialised space generator, whose postprocessors are used.
    seed
        Of the decisions that the trace leaves open, at least 1.
    """
    schedule = tvm.s_tir.Schedule(context.mod, seed=seed, error_render_level="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=True)
        schedule.enter_postproc()
        for postproc in context.space_generator.postprocs:
            if not postproc.apply(schedule):
                return None
    except (tvm.s_tir.ScheduleError, RuntimeError, ValueError, IndexError):
        return None
    return schedule


def apply_decisions(context: Any, sketch: Sketch, vector: Decisions, seed: int) -> Any | None:
    """As `apply_trace`, from a vector of decisions."""
    return apply_trace(context, sketch.trace(vector), seed)
