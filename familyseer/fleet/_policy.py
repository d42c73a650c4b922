"""How patient a fleet is: every limit that it keeps, in one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """How patient a fleet is; all in seconds but the counts.

    Attributes
    ----------
    timeout_s
        Longest time for one candidate, uploading included.
    gone_s
        How long jobs wait while there is no device.
    busy_s
        How long jobs wait while all devices that the tracker lists are somebody else's.
    lease_s
        Longest session on a device. It bounds how long a hung candidate, or a client whose
        machine died, keeps a device from others.
    slice_s
        How long a device is ours before it is handed on to others who wait.
    idle_s
        How long a device that has nothing to do is kept.
    retries
        Devices tried after the first one that was lost.
    strikes
        Sessions lost in a row until a device is rested.
    rest_s
        How long it is rested; each time twice as long.
    adopt_s
        How long a group waits for its own class of devices while another class stands idle.
    """

    timeout_s: float = 10.0
    gone_s: float = 60.0
    busy_s: float = 600.0
    lease_s: float = 30.0
    slice_s: float = 3.0
    idle_s: float = 2.0
    retries: int = 2
    strikes: int = 3
    rest_s: float = 30.0
    adopt_s: float = 20.0
