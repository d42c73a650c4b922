"""What the dispatcher keeps account of: jobs, the groups they belong to, devices and leases."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future
from dataclasses import dataclass, field

from familyseer.fleet._session import Artifact
from familyseer.fleet._speed import Speed
from familyseer.measure import WorkerPool
from familyseer.measure._timing import RunPlan

# of a device's times for a job, how much the newest counts
_NEWEST = 0.3
# seconds of a job before one was seen; it only has to be of the right order
_ASSUMED_JOB_S = 0.2


@dataclass(eq=False)
class Job:
    """One candidate to time.

    Attributes
    ----------
    number
        Its place in the order of arrival.
    losses
        Devices that were lost while they tried it, and how, in order.
    """

    artifact: Artifact
    plan: RunPlan
    group: Group
    priority: float
    queued_at: float
    number: int = 0
    future: Future[list[float]] = field(default_factory=Future)
    losses: list[tuple[str, str]] = field(default_factory=list)
    started: bool = False

    @property
    def rank(self) -> tuple[int, float, int]:
        """Its place in the queue: the higher priority first, then the earlier.

        Those that lost a device come last, so that they do not take the next one down first.
        """
        return (len(self.losses), -self.priority, self.number)

    @property
    def tried(self) -> frozenset[str]:
        """Names of the devices that were lost on it."""
        return frozenset(name for name, _ in self.losses)

    def begin(self) -> bool:
        """Marks it as running; False if its caller cancelled it before."""
        if not self.started:
            self.started = self.future.set_running_or_notify_cancel()
        return self.started


@dataclass(eq=False)
class Group:
    """Candidates whose times are compared with each other: those of one subgraph.

    Attributes
    ----------
    owner
        The class of devices that measures it; None before the first job.
    scale
        Seconds of a label for each second on the owner; 1 until the owner is replaced.
    adopting
        Whether a new owner is being put on the old one's clock just now.
    home
        The device that timed it last.
    best_s, best
        Its fastest label and our copy of that candidate's library.
    """

    owner: int | None = None
    scale: float = 1.0
    adopting: bool = False
    home: str | None = None
    best_s: float | None = None
    best: Artifact | None = None

    def keep_best(self, artifact: Artifact, label_s: float, folder: str) -> None:
        """Keeps a copy of the fastest candidate, for the day its devices are gone."""
        if self.best_s is not None and label_s >= self.best_s:
            return
        made = os.path.join(folder, f"{id(self)}{os.path.splitext(artifact.path)[1]}")
        try:
            shutil.copy(artifact.path, made)
        except OSError:
            # the caller gave the candidate up and removed it
            return
        self.best_s = label_s
        self.best = Artifact(made, artifact.device_type, artifact.args_info)


@dataclass(eq=False)
class Device:
    """A server under our key, for as long as the run lasts.

    Attributes
    ----------
    name
        ``host:port`` of its server.
    relative
        Times as long as the first device ever calibrated that it takes for the reference kernels.
    job_s
        Seconds that a job takes on it, uploading included; a moving mean.
    strikes
        Numbers of the jobs whose sessions were lost in a row.
    rests
        How often it was rested; each rest is twice as long as the one before.
    rested_until
        Monotonic time before which it gets no job.
    """

    name: str
    speed: Speed | None = None
    speed_class: int | None = None
    relative: float = 1.0
    job_s: float | None = None
    done: int = 0
    cold: int = 0
    lost: int = 0
    strikes: set[int] = field(default_factory=set)
    rests: int = 0
    rested_until: float = 0.0

    def took(self, seconds: float, *, cold: bool) -> None:
        """Books a finished job, and whether its caches were emptied for it."""
        self.done += 1
        self.cold += cold
        self.strikes.clear()
        known = self.job_s
        self.job_s = seconds if known is None else known + _NEWEST * (seconds - known)

    def expected_s(self) -> float:
        """Seconds that its next job will take."""
        return _ASSUMED_JOB_S * self.relative if self.job_s is None else self.job_s


@dataclass(eq=False)
class Lease:
    """A session on one device, with the process that holds it.

    Attributes
    ----------
    state
        ``joining`` (connecting, calibrating), ``idle``, ``busy`` or ``over``.
    since, idle_since, busy_since
        Monotonic times.
    """

    device: Device
    pool: WorkerPool
    since: float
    state: str = "joining"
    idle_since: float = 0.0
    busy_since: float = 0.0
    job: Job | None = None


@dataclass(frozen=True)
class DeviceStatus:
    """What a report says of one device.

    Attributes
    ----------
    speed_class
        Its class, from 0; None if it was never calibrated.
    reference_s
        Seconds of the reference kernels, as `reference_modules` orders them.
    done, lost
        Candidates that it timed, and sessions that it lost.
    cold
        Of those candidates, how many were timed with the caches emptied before each run.
    resting
        Whether it is left alone because it lost several sessions in a row.
    """

    name: str
    speed_class: int | None
    reference_s: tuple[float, ...]
    done: int
    lost: int
    resting: bool
    cold: int


def status(device: Device, resting: bool) -> DeviceStatus:
    """The report's line of a device."""
    speed = () if device.speed is None else device.speed.seconds
    return DeviceStatus(
        device.name,
        device.speed_class,
        speed,
        device.done,
        device.lost,
        resting,
        device.cold,
    )
