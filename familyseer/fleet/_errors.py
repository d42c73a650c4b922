"""What can go wrong with a fleet rather than with a candidate."""

from __future__ import annotations

from familyseer.measure._failures import WorkerError
from familyseer.measure._measure import OutOfTimeError


class FleetGoneError(OutOfTimeError):
    """No device came for so long that the run should end as its deadline would.

    It is an `OutOfTimeError`, so that whoever measures leaves the waiting candidates out instead
    of recording them as failed.
    """


class DeviceLostError(WorkerError):
    """A candidate took down, or hung, every device that tried it; the message says how."""


class CandidateError(WorkerError):
    """A candidate raised an error on a device whose session lived on."""
