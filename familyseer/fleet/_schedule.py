"""Which waiting job goes to which idle device: earliest finish first.

Classic list scheduling (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969): jobs in
order of rank, each to the device that would finish it first, busy devices included. A slow device
that stands idle so leaves the last job of a round to a fast one that will soon be free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A leased device as the schedule sees it.

    Attributes
    ----------
    device
        Its name.
    free_in_s
        Seconds until it can begin a job; 0 for an idle one.
    job_s
        Seconds it takes for a job.
    """

    device: str
    speed_class: int
    free_in_s: float
    job_s: float


@dataclass(frozen=True)
class Waiting:
    """A job as the schedule sees it.

    Attributes
    ----------
    group
        Names its group.
    owner
        The class that its group belongs to; None leaves the choice to the schedule.
    avoid
        Devices that must not get it.
    home
        The device that timed its group last: of two that finish alike, it is taken.
    """

    job: int
    group: int
    owner: int | None = None
    avoid: frozenset[str] = frozenset()
    home: str | None = None


def assign(waiting: Sequence[Waiting], slots: Sequence[Slot]) -> dict[str, int]:
    """The jobs that idle devices begin now.

    Parameters
    ----------
    waiting
        By rank, the most urgent first.

    Returns
    -------
    dict
        The job's number by device; devices that should not begin one are left out.
    """
    free_in = {slot.device: slot.free_in_s for slot in slots}
    owners = {one.group: one.owner for one in waiting if one.owner is not None}
    begun: dict[str, int] = {}
    taken: set[str] = set()
    for one in waiting:
        if one.group not in owners:
            owner = _owner(one.group, waiting, slots, free_in)
            if owner is None:
                continue
            owners[one.group] = owner
        able = [
            s for s in slots if s.speed_class == owners[one.group] and s.device not in one.avoid
        ]
        if not able:
            continue
        slot = _first_to_finish(able, free_in, one.home)
        if slot.free_in_s <= 0 and slot.device not in taken:
            begun[slot.device] = one.job
        taken.add(slot.device)
        free_in[slot.device] += slot.job_s
    return begun


def _first_to_finish(able: Sequence[Slot], free_in: Mapping[str, float], home: str | None) -> Slot:
    # at home one timing is compared with another of the same device; an idle home is never late
    for slot in able:
        if slot.device == home and free_in[slot.device] <= 0:
            return slot
    return min(able, key=lambda s: (free_in[s.device] + s.job_s, s.device))


def _owner(
    group: int, waiting: Sequence[Waiting], slots: Sequence[Slot], free_in: Mapping[str, float]
) -> int | None:
    """The class that would be done with all of a group's jobs first."""
    count = sum(one.group == group for one in waiting)
    ends = {}
    for speed_class in sorted({slot.speed_class for slot in slots}):
        members = [slot for slot in slots if slot.speed_class == speed_class]
        ahead = {slot.device: free_in[slot.device] for slot in members}
        ends[speed_class] = 0.0
        for _ in range(count):
            slot = _first_to_finish(members, ahead, None)
            ahead[slot.device] += slot.job_s
            ends[speed_class] = max(ends[speed_class], ahead[slot.device])
    return min(ends, key=lambda c: (ends[c], c), default=None)
