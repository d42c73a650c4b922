"""Devices while they are ours: leased, calibrated, used, handed back, lost, rested.

Everything here runs in the dispatcher's thread; the workers' answers come through its inbox.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from familyseer.fleet._jobs import Device, Lease
from familyseer.fleet._policy import Policy
from familyseer.fleet._session import Outcome, connect, hang_up, time_references
from familyseer.fleet._speed import Speed, SpeedClasses
from familyseer.fleet._tracker import Census, Offer
from familyseer.measure import WorkerPool
from familyseer.measure._failures import describe_failure

logger = logging.getLogger("familyseer.fleet")

_CONNECT_S = 20.0
_CALIBRATE_S = 60.0
_HANG_UP_S = 2.0


class Leases:
    """The sessions that a run holds.

    Parameters
    ----------
    tolerance
        As in `SpeedClasses`.
    post
        Has a callable called in the dispatcher's thread.

    Attributes
    ----------
    devices
        Every device that was ever leased, by name.
    live
        The leases that are not over.
    census
        What the tracker said last; None when it does not answer. Another thread sets it.
    seen
        When each class of devices last had a lease, in monotonic seconds.
    references
        What `References.built` gives; set before the first lease.
    """

    def __init__(
        self, policy: Policy, tolerance: float, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self.policy = policy
        self.devices: dict[str, Device] = {}
        self.live: list[Lease] = []
        self.census: Census | None = None
        self.classes = SpeedClasses(tolerance)
        self.seen: dict[int, float] = {}
        self.references: list[Any] = []
        self.warnings: list[str] = []
        self._post = post
        self._retiring: list[threading.Thread] = []
        self._failed_joins = itertools.count(-1, -1)

    def take(self, offer: Offer) -> None:
        """Connects to a device, and times the reference kernels if it is new."""
        device = self.devices.setdefault(offer.device, Device(offer.device))
        now = time.monotonic()
        if device.rested_until > now:
            # not connected to, its server offers itself again after some seconds
            return
        # the session lives and dies with its process
        lease = Lease(device, WorkerPool(1, calls_per_worker=sys.maxsize), now)
        self.live.append(lease)
        self.call(
            lease,
            partial(self._connected, lease),
            _CONNECT_S,
            connect,
            offer.host,
            offer.port,
            offer.match_key,
            self.policy.lease_s,
        )

    def call(
        self,
        lease: Lease,
        then: Callable[[Future[Any]], None],
        timeout_s: float,
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Calls a function in a lease's process, then `then` here, unless the lease is over."""

        def answered(future: Future[Any]) -> None:
            if lease.state != "over":
                then(future)

        future = lease.pool.submit(function, *args, timeout_s=timeout_s)
        future.add_done_callback(lambda finished: self._post(partial(answered, finished)))

    def idle(self) -> list[Lease]:
        """Those that could begin a job."""
        return [lease for lease in self.live if lease.state == "idle"]

    def resting(self) -> set[str]:
        """Names of the devices that are left alone now."""
        now = time.monotonic()
        return {d.name for d in list(self.devices.values()) if d.rested_until > now}

    def listed(self) -> frozenset[str]:
        """Names of the devices that the tracker lists and that are not resting."""
        census = self.census
        return frozenset() if census is None else census.devices - self.resting()

    def free(self, lease: Lease) -> None:
        """Marks a device as ready for its next job."""
        now = time.monotonic()
        lease.state, lease.job, lease.idle_since = "idle", None, now
        assert lease.device.speed_class is not None
        self.seen[lease.device.speed_class] = now

    def lose(self, lease: Lease, fault: str, job: int | None = None) -> None:
        """Books a lost session; a device that lost too many in a row is rested.

        Parameters
        ----------
        job
            The number of the job that was in flight. One job counts once, however often it is
            tried: it may be the job that is at fault.
        """
        device = lease.device
        self.end(lease, in_order=False)
        device.lost += 1
        device.strikes.add(next(self._failed_joins) if job is None else job)
        if len(device.strikes) < self.policy.strikes:
            return
        device.rested_until = time.monotonic() + self.policy.rest_s * 2**device.rests
        device.strikes.clear()
        device.rests += 1
        if device.rests == 1:
            self.warn(
                f"device {device.name} lost {self.policy.strikes} sessions in a row "
                f"({fault}): it is left alone for a while"
            )

    def hand_back(self, jobs_wait: bool) -> None:
        """Ends the idle leases that are old, unused, or waited for by others."""
        now = time.monotonic()
        census = self.census
        others_wait = census is not None and census.pending > 0
        for lease in self.idle():
            age = now - lease.since
            old = age + self.policy.timeout_s > self.policy.lease_s
            unused = not jobs_wait and now - lease.idle_since > self.policy.idle_s
            shared = others_wait and (age > self.policy.slice_s or not jobs_wait)
            if old or unused or shared:
                self.end(lease, in_order=True)

    def end(self, lease: Lease, *, in_order: bool) -> None:
        """Ends a lease; closing its process takes a moment and is nobody's wait."""
        if lease.device.speed_class is not None:
            self.seen[lease.device.speed_class] = time.monotonic()
        lease.state, lease.job = "over", None
        self.live.remove(lease)
        thread = threading.Thread(target=_close, args=(lease.pool, in_order), daemon=True)
        thread.start()
        self._retiring = [t for t in self._retiring if t.is_alive()] + [thread]

    def close(self) -> None:
        """Gives all devices back and waits until their processes have ended."""
        for lease in list(self.live):
            self.end(lease, in_order=True)
        for thread in self._retiring:
            thread.join()

    def warn(self, text: str) -> None:
        """Tells people, and keeps the text for the run's report."""
        self.warnings.append(text)
        logger.warning(text)

    def _connected(self, lease: Lease, future: Future[Any]) -> None:
        _, fault = outcome(future)
        if fault is not None:
            self.lose(lease, fault)
        elif lease.device.speed_class is None:
            self._calibrate(lease)
        else:
            self.free(lease)

    def _calibrate(self, lease: Lease) -> None:
        then = partial(self._calibrated, lease)
        self.call(lease, then, _CALIBRATE_S, time_references, self.references)

    def _calibrated(self, lease: Lease, future: Future[Any]) -> None:
        seconds, fault = outcome(future)
        if fault is not None:
            self.lose(lease, f"reference kernels: {fault}")
            return
        device, speed = lease.device, Speed(seconds)
        first = device.speed is None
        device.speed = speed if device.speed is None else device.speed.best_of(speed)
        if first and self.classes.speeds and self.classes.find(device.speed) is None:
            # one disturbed timing should not set it apart from its like
            self._calibrate(lease)
            return
        device.speed_class = self.classes.place(device.speed)
        device.relative = device.speed.over(self.classes.speeds[0])
        self.free(lease)


def outcome(future: Future[Any]) -> tuple[Any, str | None]:
    """What a finished call gave (None if its process was lost) and why it failed (None if not)."""
    try:
        result = future.result()
    except Exception as error:  # whatever took the process or the call down
        return None, describe_failure("session", error)
    return result, result.fault if isinstance(result, Outcome) else None


def _close(pool: WorkerPool, in_order: bool) -> None:
    if in_order:
        # behind the job in flight, if there is one
        with contextlib.suppress(Exception):
            pool.submit(hang_up, timeout_s=_HANG_UP_S).result(timeout=_HANG_UP_S)
    pool.close()
