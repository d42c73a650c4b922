"""A design space as sketches: traces whose sampling instructions are slots to decide.

MetaSchedule gives a subgraph's design space as a few traces ("sketches" in Ansor's terms, arXiv
2006.06762, section 4.1); candidates of one sketch differ in decisions alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from familyseer.search._decisions import CHOICE, OPEN, OTHER, TILE, Decisions, DecisionSpace, Slot
from familyseer.search._launch import launch_bounds
from familyseer.tvm_env import load_tvm


class Sketch(DecisionSpace):
    """One trace of a subgraph's design space.

    Parameters
    ----------
    trace
        The trace, with or without postprocessing.
    """

    def __init__(self, trace: Any) -> None:
        tvm = load_tvm(intrinsics=True)
        simplified = trace.simplified(True)
        self._make_trace = tvm.s_tir.schedule.Trace
        self.instructions = list(simplified.insts)
        self._sampling = [i for i in self.instructions if i.kind.name.startswith("Sample")]
        super().__init__(_slots(self._sampling, simplified.decisions))
        self._bounds = launch_bounds(self.instructions, self._sampling, self.slots)

    def allows(self, vector: Decisions) -> bool:
        """Whether a GPU could launch what these decisions make; true where nobody can tell."""
        return all(bound.holds(vector) for bound in self._bounds)

    @cached_property
    def signature(self) -> str:
        """The trace without its decisions: candidates of one signature differ in those alone."""
        return str(self._make_trace(self.instructions, {}))

    @cached_property
    def structure(self) -> str:
        """The signature without names, for siblings' blocks are called otherwise."""
        return re.sub(r'"[^"]*"', '""', self.signature)

    def read(self, trace: Any) -> Decisions:
        """The decisions of a trace that is known to be of this sketch (`sketch_of`)."""
        simplified = trace.simplified(True)
        sampling = [i for i in simplified.insts if i.kind.name.startswith("Sample")]
        vector = np.full(self.length, OPEN, dtype=np.int32)
        decisions = simplified.decisions
        for slot, instruction in zip(self.slots, sampling, strict=True):
            numbers = _numbers(decisions[instruction]) if instruction in decisions else []
            if len(numbers) == slot.width:
                vector[slot.start : slot.stop] = numbers
        return vector

    def trace(self, vector: Decisions) -> Any:
        """TVM's trace of a vector of decisions; open slots are sampled when it is applied."""
        decisions = {}
        for slot, instruction in zip(self.slots, self._sampling, strict=True):
            numbers = [int(n) for n in vector[slot.start : slot.stop]]
            if OPEN in numbers:
                continue
            single = slot.instruction in ("SampleCategorical", "SampleComputeLocation")
            decisions[instruction] = numbers[0] if single else numbers
        return self._make_trace(self.instructions, decisions)


def sketches_of(spaces: Sequence[Any]) -> list[Sketch]:
    """The sketches of a generated design space, given as MetaSchedule's schedules."""
    return [Sketch(space.trace) for space in spaces]


def sketch_of(trace: Any, sketches: Sequence[Sketch]) -> int | None:
    """Position of the sketch that a trace is of, or None."""
    signature = Sketch(trace).signature
    found = (i for i, sketch in enumerate(sketches) if sketch.signature == signature)
    return next(found, None)


def _numbers(decision: Any) -> list[int]:
    if hasattr(decision, "__len__"):
        return [int(n) for n in decision]
    return [int(decision)]


def _slots(sampling: Sequence[Any], decisions: Any) -> list[Slot]:
    slots: list[Slot] = []
    start = 0
    for instruction in sampling:
        name = str(instruction.kind.name)
        numbers = _numbers(decisions[instruction]) if instruction in decisions else [OPEN]
        slot = _slot(name, instruction, numbers, start)
        slots.append(slot)
        start = slot.stop
    return slots


def _slot(name: str, instruction: Any, numbers: list[int], start: int) -> Slot:
    if name == "SamplePerfectTile":
        limit = int(instruction.attrs[1])
        return Slot(TILE, name, start, len(numbers), math.prod(numbers), limit)
    if name == "SampleCategorical":
        values = tuple(_as_number(v) for v in instruction.attrs[0])
        return Slot(CHOICE, name, start, 1, len(values), values=values)
    return Slot(OTHER, name, start, len(numbers), 0)


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
