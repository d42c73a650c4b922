"""Where each subgraph's best schedule stands below the machine's peaks.

The roofline model (Williams, Waterman and Patterson, "Roofline: an insightful visual performance
model for multicore architectures", CACM 2009): a program that does `I` operations for each byte it
moves cannot do more than min(peak operations, `I` x peak bytes) a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.report import _facts as facts
from familyseer.report._read import RunData

# a float32 schedule that is faster than the peak by more than this says that the machine was busy
# with something else when its peak was measured
_BELIEVED = 1.25
# below this it moves data and computes next to nothing, which a plot of operations cannot show
LEAST_INTENSITY = 0.01
_DTYPE = re.compile(r"[a-z]+(\d+)")


@dataclass(frozen=True)
class Roof:
    """The most operations and bytes a second of a machine."""

    flops_s: float
    bytes_s: float


@dataclass(frozen=True)
class Position:
    """A subgraph's best schedule, alone, on the machine that measured it.

    Attributes
    ----------
    name
        The subgraph's.
    flops
        Operations of one run, as TVM counts them.
    bytes_moved
        Of its arguments, each read or written once: the least that it can move, if none of them is
        in a cache already. None where a shape is not fixed.
    run_us
        Its best measured time in microseconds.
    """

    name: str
    flops: float
    bytes_moved: float | None
    run_us: float

    @property
    def plausible(self) -> bool:
        """Whether its figures are such that a machine can have them."""
        rates = (self.run_us, self.flops_s, self.intensity, self.bytes_s)
        return all(rate is None or facts.plausible(rate) for rate in rates)

    @property
    def flops_s(self) -> float:
        """Operations a second."""
        return self.flops / self.run_us * 1e6 if self.run_us else math.inf

    @property
    def bytes_s(self) -> float | None:
        """Bytes a second."""
        if self.bytes_moved is None:
            return None
        return self.bytes_moved / self.run_us * 1e6 if self.run_us else math.inf

    @property
    def intensity(self) -> float | None:
        """Operations a byte."""
        return self.flops / self.bytes_moved if self.bytes_moved else None

    def below(self, roof: Roof | None) -> float | None:
        """The part of what a roof allows, above 1 where caches help; None where one is unknown."""
        if roof is None or self.intensity is None or self.bytes_s is None:
            return None
        if self.intensity < LEAST_INTENSITY:
            return self.bytes_s / roof.bytes_s
        return self.flops_s / min(roof.flops_s, self.intensity * roof.bytes_s)


def positions(data: RunData) -> list[Position]:
    """Of every subgraph with a measured schedule, those that compute the most first."""
    found = []
    for family in data.families:
        for member in family["subgraphs"]:
            schedule = data.schedules.get(member["key"])
            flops = facts.positive(member, "flops")
            if schedule is not None and flops is not None:
                name = facts.shown(member["name"], facts.SHORT)
                moved = bytes_of_arguments(member)
                position = Position(name, flops, moved, schedule.run_us)
                if position.plausible:
                    found.append((member["index"], position))
    return [position for _, position in sorted(found, key=lambda pair: pair[0])]


def find_roof(data: RunData, found: Sequence[Position]) -> tuple[Roof | None, str]:
    """The machine's measured peaks; None, and why, where there are none that can be believed."""
    machine = data.machine
    if machine is None or machine.peak_flops is None or machine.peak_bytes_s is None:
        return None, "The peaks of the device that measured are not known, so no roof is drawn."
    fastest = max((position.flops_s for position in found), default=0.0)
    if fastest > _BELIEVED * machine.peak_flops:
        return None, (
            "Schedules are faster than the peak that was measured at the end of the run: the "
            "machine was busy by then, and no roof is drawn."
        )
    return Roof(machine.peak_flops, machine.peak_bytes_s), (
        "The peaks were measured in a fraction of a second at the end of the run, with NumPy's "
        "float32 matrix product and its copying of arrays of 32 MiB: a well-tuned program's "
        "figures, not a data sheet's. Other load makes them too low; what a large cache holds and "
        "shorter types may exceed them."
    )


def bytes_of_arguments(member: Mapping[str, Any]) -> float | None:
    """Bytes of a subgraph's inputs and outputs together; None where one's size is not known."""
    shapes, dtypes = member["shapes"], member["dtypes"]
    if len(shapes) != len(dtypes):
        return None
    total = 0.0
    for shape, dtype in zip(shapes, dtypes, strict=True):
        usable = isinstance(shape, list) and isinstance(dtype, str)
        if not usable or not all(type(extent) is int and extent >= 0 for extent in shape):
            return None
        bits = 8 if dtype == "bool" else int(m[1]) if (m := _DTYPE.match(dtype[:20])) else 0
        total += math.prod(map(float, shape)) * bits / 8
    return total if math.isfinite(total) and total > 0 else None
