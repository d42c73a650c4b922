"""What a GPU asks of a block's threads, read off a trace, so that decisions can be told it.

Of random decisions for a CUDA sketch one in fifty makes a block that MetaSchedule's verification
takes (between 32 and 1024 threads, few virtual ones). The threads are products of tile factors,
and those are known before the trace is applied.

So is how many sums a thread of a CUDA core holds at a time: what of the spatial tiles is neither a
block's nor a thread's. Each needs a register, and with more of them than there are registers a
candidate spills, which otherwise only its compiler tells, after seconds. Of 96 random float32
candidates of ResNet-18 that were 22, none of them good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.search._decisions import OPEN, TILE, Decisions, Slot

# MetaSchedule's verification allows no more of them
MOST_VTHREADS = 8
WARP = 32
# of a thread, and of a block, on every processor since compute capability 5.0
THREAD_REGISTERS, BLOCK_REGISTERS = 255, 65536
_LOW, _HIGH = (
    "meta_schedule.thread_extent_low_inclusive",
    "meta_schedule.thread_extent_high_inclusive",
)
_WARPED = "warp_execution"


@dataclass(frozen=True)
class Bound:
    """A product of decisions that must lie within limits.

    Attributes
    ----------
    places
        Positions in a vector of decisions.
    times
        A constant factor of the product.
    """

    places: tuple[int, ...]
    low: int
    high: int
    times: int = 1

    def holds(self, vector: Decisions) -> bool:
        """Whether the decisions keep it; open ones are given the benefit of the doubt."""
        numbers = [int(vector[i]) for i in self.places]
        return OPEN in numbers or self.low <= self.times * math.prod(numbers) <= self.high


def launch_bounds(
    instructions: Sequence[Any], sampling: Sequence[Any], slots: Sequence[Slot]
) -> list[Bound]:
    """The bounds of a trace; none where it binds no loop to threads.

    Parameters
    ----------
    instructions
        Of the trace, in order.
    sampling, slots
        Its sampling instructions and where their decisions are in a vector.
    """
    reader = _Reader(dict(zip(sampling, slots, strict=True)))
    for instruction in instructions:
        reader.read(instruction)
    return reader.bounds()


class _Reader:
    """Follows loops from tile factors through splits and fusions to the threads they become."""

    def __init__(self, slots: dict[Any, Slot]) -> None:
        self._slots = slots
        # a factor's place; a loop's places, None where its extent comes from elsewhere
        self._factors: dict[Any, int] = {}
        self._loops: dict[Any, tuple[int, ...] | None] = {}
        self._threads: dict[str, tuple[int, ...] | None] = {}
        self._tiles: list[range] = []
        self._limits: dict[str, int] = {}
        self._warped = False

    def read(self, instruction: Any) -> None:
        name = str(instruction.kind.name)
        slot = self._slots.get(instruction)
        if slot is not None and slot.kind == TILE:
            self._tiles.append(range(slot.start, slot.stop))
            self._factors.update(
                zip(instruction.outputs, range(slot.start, slot.stop), strict=True)
            )
        elif name == "Split":
            for loop, factor in zip(instruction.outputs, instruction.inputs[1:], strict=True):
                place = self._factor(factor)
                self._loops[loop] = None if place is None else (place,)
        elif name == "Fuse":
            parts = [self._loops.get(loop) for loop in instruction.inputs]
            known = [part for part in parts if part is not None]
            joined = tuple(place for part in known for place in part)
            self._loops[instruction.outputs[0]] = joined if len(known) == len(parts) else None
        elif name == "Bind":
            # every loop bound to an axis has its extent; some are known by their factors
            axis, places = str(instruction.attrs[0]), self._loops.get(instruction.inputs[0])
            if self._threads.get(axis) is None:
                self._threads[axis] = places
        elif name == "Annotate":
            self._annotate(str(instruction.attrs[0]), instruction.inputs[1])

    def _factor(self, value: Any) -> int | None:
        try:
            return self._factors.get(value)
        except TypeError:  # a number, or left to the split
            return None

    def _annotate(self, key: str, value: Any) -> None:
        if key in (_LOW, _HIGH):
            self._limits[key] = int(value)
        elif key == _WARPED:
            self._warped = True

    def bounds(self) -> list[Bound]:
        bounds = [
            Bound(places, 1, MOST_VTHREADS)
            for axis, places in self._threads.items()
            if axis.startswith("vthread") and places
        ]
        threads = [p for axis, p in self._threads.items() if axis.startswith("threadIdx")]
        if threads and None not in threads and set(self._limits) == {_LOW, _HIGH}:
            places = tuple(place for axis in threads if axis is not None for place in axis)
            times = WARP if self._warped else 1
            bounds.append(Bound(places, self._limits[_LOW], self._limits[_HIGH], times))
            # a warp's sums on tensor cores lie in registers of all its threads
            if not self._warped:
                sums = self._sums()
                bounds.append(Bound(sums, 1, THREAD_REGISTERS))
                bounds.append(Bound((*places, *sums), 1, BLOCK_REGISTERS))
        return bounds

    def _sums(self) -> tuple[int, ...]:
        """Factors whose product is the number of sums that a thread holds."""
        bound = {place for places in self._threads.values() for place in places or ()}
        virtual = {
            place
            for axis, places in self._threads.items()
            if axis.startswith("vthread")
            for place in places or ()
        }
        # tiles of which nothing is bound are those of reductions
        spatial = [tile for tile in self._tiles if bound.intersection(tile)]
        return tuple(p for tile in spatial for p in tile if p not in bound or p in virtual)
