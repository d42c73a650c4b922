"""Schedules for functions that nobody tuned, on processors: plain, quick to make, always right.

TVM compiles such functions as they are written, which for a product of matrices is one strided
dot product after the other: two orders of magnitude below what the processor can do.
"""

from __future__ import annotations

import math
from typing import Any

from familyseer.tvm_env import load_tvm

# below as many steps, starting threads takes longer than what they save
_WORTH_THREADS = 2**14
# elements of the result that a thread makes at once where there is but one loop
_CHUNK = 64


def plain_schedules(mod: Any, target: Any) -> Any:
    """A module with a plain schedule for each function that has none.

    Sums are computed in the order in which they are written: the loops over what is summed move
    outside the innermost loop over the result where memory is then read in sequence, and the outer
    loops run on all cores. What this does not fit is left as it is. (TVM's own default schedules
    for processors, in dlight, are for products with a vector and for reductions alone.)

    Parameters
    ----------
    mod
        A module of TIR functions, or of Relax functions that call them; it is not changed.
    target
        The processor's target.
    """
    tvm = load_tvm()

    class Plain(tvm.s_tir.dlight.ScheduleRule):  # type: ignore[name-defined]
        def apply(self, func: Any, target: Any, tunable: bool) -> Any:
            return _schedule(func)

    with target:
        return tvm.s_tir.dlight.ApplyDefaultSchedule(Plain())(mod.clone())


def _schedule(func: Any) -> Any | None:
    tvm = load_tvm()
    try:
        schedule = tvm.s_tir.Schedule(func)
        for block in schedule.get_child_blocks(schedule.get_sblock("root")):
            _schedule_block(schedule, block)
    except (tvm.s_tir.ScheduleError, ValueError, RuntimeError):
        # TVM can compile what it cannot schedule
        return None
    return schedule


def _schedule_block(schedule: Any, block: Any) -> None:
    tvm = load_tvm()
    spatial, summing = tvm.tirx.IterVar.DataPar, tvm.tirx.IterVar.CommReduce
    written = schedule.get(block)
    loops = list(schedule.get_loops(block))
    kinds = [int(one.iter_type) for one in written.iter_vars]
    extents: list[Any] = [getattr(schedule.get(loop).extent, "value", None) for loop in loops]
    # one loop for each of the block's variables, as what nobody has scheduled has
    if len(loops) != len(kinds) or None in extents or not set(kinds) <= {spatial, summing}:
        return
    outer = [i for i, kind in enumerate(kinds) if kind == spatial]
    summed = [i for i, kind in enumerate(kinds) if kind == summing]
    if not outer:
        return
    threads = math.prod(extents) >= _WORTH_THREADS
    parallel = [loops[i] for i in outer]
    moved = bool(summed) and _reads_in_sequence(written, written.iter_vars[outer[-1]].var)
    if moved or not summed:
        inner = parallel.pop()
        if threads and math.prod(extents[i] for i in outer[:-1]) == 1:
            chunks, inner = schedule.split(inner, [None, _CHUNK])
            parallel.append(chunks)
        if moved:
            schedule.reorder(*parallel, *(loops[i] for i in summed), inner)
    if threads:
        parallel = [schedule.fuse(*parallel)]
        schedule.parallel(parallel[0])
    if moved:
        # or else each step would ask whether it is the first
        schedule.decompose_reduction(block, schedule.get_loops(block)[len(parallel)])


def _reads_in_sequence(block: Any, variable: Any) -> bool:
    """Whether what the block reads for the variable's next value is next in memory, somewhere."""
    tvm = load_tvm()
    for region in block.reads:
        if len(region.region):
            slopes = tvm.sym.detect_linear_equation(region.region[-1].min, [variable])
            if slopes and getattr(slopes[0], "value", None) == 1:
                return True
    return False
