"""Plans' lists on devices, kept for as long as the host's lists that they are copies of.

`Plan.refresh` keeps the arrays of lists that still serve, so what is here serves on as well.
"""

from __future__ import annotations

import weakref

from spamm._plan import Plan
from spamm.cuda._device import Device
from spamm.cuda._order import Tiling
from spamm.cuda._runtime_engine import Lists, upload_lists

Notes = dict[tuple[int, Tiling], Lists]

_kept: dict[tuple[int, int], Notes] = {}


def lists_of(plan: Plan, device: Device, tiling: Tiling) -> Lists:
    """A plan's lists on a device, copied there when they are first asked for."""
    notes = _notes(plan)
    key = (device.number, tiling)
    if key not in notes:
        notes[key] = upload_lists(device, plan, tiling)
    return notes[key]


def keep(plan: Plan, device: Device, lists: Lists) -> None:
    """Remember the lists that a host's plan was copied from."""
    _notes(plan)[device.number, lists.tiling] = lists


def _notes(plan: Plan) -> Notes:
    key = id(plan.offsets), id(plan.ks)
    if key not in _kept:
        _kept[key] = {}
        for array in (plan.offsets, plan.ks):
            # ids are used again once either array is gone
            weakref.finalize(array, _kept.pop, key, None).atexit = False
    return _kept[key]
