"""Measuring on any number of devices behind a TVM RPC tracker.

TVM's own tracker, server and client carry the bytes. This room decides which device measures
which candidate, tries again elsewhere when a device is lost, and keeps the clocks of fast and slow
devices apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer.fleet._address import parse_tracker

if TYPE_CHECKING:
    from familyseer.fleet._errors import FleetGoneError
    from familyseer.fleet._runner import FleetRunner
    from familyseer.fleet._target import check_target
    from familyseer.fleet._tracker import check_fleet

__all__ = ["FleetGoneError", "FleetRunner", "check_fleet", "check_target", "parse_tracker"]

__getattr__ = lazily(
    __name__,
    {
        "FleetGoneError": "._errors",
        "FleetRunner": "._runner",
        "check_fleet": "._tracker",
        "check_target": "._target",
    },
)
