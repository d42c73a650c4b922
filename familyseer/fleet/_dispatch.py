"""The thread that decides which device times which candidate; all else sends it messages.

One thread decides, so nothing here needs a lock: other threads (callers, the recruiter, the pools
of the leases) put callables into its inbox.
"""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from familyseer.fleet._errors import CandidateError, DeviceLostError, FleetGoneError
from familyseer.fleet._jobs import Device, DeviceStatus, Group, Job, Lease, status
from familyseer.fleet._leases import Leases, outcome
from familyseer.fleet._policy import Policy
from familyseer.fleet._recruiter import Recruiter
from familyseer.fleet._schedule import Slot, Waiting, assign
from familyseer.fleet._session import Artifact, time_artifact
from familyseer.fleet._speed import References
from familyseer.fleet._tracker import Census, Offer
from familyseer.measure._timing import RunPlan

logger = logging.getLogger("familyseer.fleet")

_TICK_S = 0.2
_TAKE_S = 20.0


class Dispatcher:
    """Leases devices as jobs need them, and times each job on one of them.

    Parameters
    ----------
    address, key
        The tracker's host and port, and the key of the devices.
    target
        Of the candidates.
    tolerance
        As in `SpeedClasses`.
    on_gone
        Called from the dispatcher's thread, once, when the fleet is given up.

    Attributes
    ----------
    gone
        Why the fleet was given up; None while it was not.
    """

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        target: Any,
        policy: Policy,
        *,
        tolerance: float,
        on_gone: Callable[[FleetGoneError], None],
    ) -> None:
        self.policy = policy
        self.gone: FleetGoneError | None = None
        self._where = f"the tracker at {address[0]}:{address[1]} with key {key}"
        self._on_gone = on_gone
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: list[Job] = []
        self._groups: dict[Any, Group] = {}
        self._jobs_made = 0
        self._alone_since = time.monotonic()
        self._ready = False
        self._closing = False
        self._folder = tempfile.mkdtemp(prefix="familyseer-fleet-best-")
        self._references = References(target)
        self._leases = Leases(policy, tolerance, self._inbox.put)
        self._recruiter = Recruiter(
            address, key, wanted=self._wanted, on_census=self._count, on_offer=self._take
        )
        self._thread = threading.Thread(target=self._loop, name="fleet-dispatcher", daemon=True)
        self._thread.start()
        self._recruiter.start()

    # called by other threads

    def submit(
        self, artifact: Artifact, plan: RunPlan, group: Any, priority: float
    ) -> Future[list[float]]:
        """Queues a job; its future gives seconds, one figure a repeat.

        Raises
        ------
        RuntimeError
            The fleet was closed.
        """
        if self._closing:
            raise RuntimeError("the fleet is closed")
        known = self._groups.setdefault(group, Group())
        job = Job(artifact, plan, known, priority, time.monotonic())
        self._inbox.put(partial(self._queue, job))
        return job.future

    def devices(self) -> list[DeviceStatus]:
        """What is known of every device that was ever leased, by name."""
        resting = self._leases.resting()
        known = self._leases.devices.copy()
        return [status(known[name], name in resting) for name in sorted(known)]

    def warnings(self) -> list[str]:
        """What people should be told, in order."""
        return list(self._leases.warnings)

    def close(self) -> None:
        """Gives all devices back, fails what waits and stops."""
        self._closing = True
        self._recruiter.close()
        self._references.close()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wanted(self) -> int:
        """Devices that the waiting jobs could use beyond those that are leased."""
        if self._closing or not self._ready or self.gone is not None:
            return 0
        ours = {lease.device.name for lease in list(self._leases.live)}
        return min(len(self._leases.listed() - ours), len(self._waiting))

    def _count(self, census: Census | None) -> None:
        self._leases.census = census

    def _take(self, offer: Offer) -> None:
        taken = threading.Event()

        def take() -> None:
            if not self._closing:
                self._leases.take(offer)
            taken.set()

        self._inbox.put(take)
        taken.wait(_TAKE_S)

    # called by the dispatcher's own thread

    def _loop(self) -> None:
        try:
            self._leases.references = self._references.built()
            self._ready = True
            while not self._closing:
                self._receive()
                self._step(time.monotonic())
        except Exception as error:
            if not self._closing:
                logger.exception("the fleet's dispatcher failed")
                self._give_up(FleetGoneError(f"the fleet's dispatcher failed: {error}"))
        busy = [lease.job for lease in self._leases.live if lease.job is not None]
        self._leases.close()
        while not self._closing:
            self._receive()
        self._fail(busy, FleetGoneError("the fleet was closed"))
        self._fail(self._waiting, FleetGoneError("the fleet was closed"))

    def _receive(self) -> None:
        try:
            self._inbox.get(timeout=_TICK_S)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _step(self, now: float) -> None:
        self._waiting = [job for job in self._waiting if not job.future.cancelled()]
        self._leases.hand_back(bool(self._waiting))
        self._adopt(now)
        self._begin(now)
        self._look_for_the_end(now)
        if self._wanted() > 0:
            self._recruiter.wake()

    def _queue(self, job: Job) -> None:
        if self.gone is not None:
            self._fail([job], self.gone)
            return
        self._jobs_made += 1
        job.number = self._jobs_made
        self._waiting.append(job)

    def _begin(self, now: float) -> None:
        """Starts what idle devices should do."""
        if not self._waiting or not self._leases.idle():
            return
        self._waiting.sort(key=lambda job: job.rank)
        joining = any(lease.state == "joining" for lease in self._leases.live)
        leases = {x.device.name: x for x in self._leases.live if x.state in ("idle", "busy")}
        # who owns a group is decided once the devices that come are known
        jobs = {
            job.number: job
            for job in self._waiting
            if not job.group.adopting and not (joining and job.group.owner is None)
        }
        waiting = [
            Waiting(number, id(job.group), job.group.owner, self._avoid(job), job.group.home)
            for number, job in jobs.items()
        ]
        slots = [self._slot(lease, now) for lease in leases.values()]
        for name, number in assign(waiting, slots).items():
            self._start(leases[name], jobs[number], now)

    def _slot(self, lease: Lease, now: float) -> Slot:
        job_s = lease.device.expected_s()
        free_in_s = 0.0
        if lease.state == "busy":
            # a job that takes longer than expected is about to end, for all that is known
            free_in_s = max(0.05 * job_s, lease.busy_since + job_s - now)
        assert lease.device.speed_class is not None
        return Slot(lease.device.name, lease.device.speed_class, free_in_s, job_s)

    def _avoid(self, job: Job) -> frozenset[str]:
        """Devices that were lost on a job, as long as there is another one."""
        if not job.losses:
            return frozenset()
        leased = {lease.device.name for lease in self._leases.live}
        return job.tried if (leased | self._leases.listed()) - job.tried else frozenset()

    def _start(self, lease: Lease, job: Job, now: float) -> None:
        self._waiting.remove(job)
        if not job.begin():
            return
        group = job.group
        if group.owner is None:
            group.owner = lease.device.speed_class
        plan = job.plan
        if plan.cutoff_s is not None:
            plan = replace(plan, cutoff_s=plan.cutoff_s / group.scale)
        lease.state, lease.job, lease.busy_since = "busy", job, now
        then = partial(self._timed, lease, job)
        self._leases.call(lease, then, self.policy.timeout_s, time_artifact, job.artifact, plan)

    def _timed(self, lease: Lease, job: Job, future: Future[Any]) -> None:
        done, fault = outcome(future)
        if done is None or done.lost:
            self._lost(lease, job, str(fault))
            return
        lease.device.took(time.monotonic() - lease.busy_since, cold=done.cold)
        job.group.home = lease.device.name
        self._leases.free(lease)
        if fault is not None:
            job.future.set_exception(CandidateError(fault))
            return
        labels = [job.group.scale * s for s in done.seconds]
        job.group.keep_best(job.artifact, min(labels), self._folder)
        job.future.set_result(labels)

    def _lost(self, lease: Lease, job: Job, fault: str) -> None:
        """Tries a job again that lost its device, unless it seems to be the job that did it."""
        job.losses.append((lease.device.name, fault))
        self._leases.lose(lease, fault, job.number)
        if len(job.tried) < 2 and len(job.losses) <= self.policy.retries:
            self._waiting.append(job)
            return
        if len(job.tried) > 1:
            # two devices agree that it was the candidate
            for name in job.tried:
                self._leases.devices[name].strikes.discard(job.number)
        where = ", ".join(sorted(job.tried))
        self._fail([job], DeviceLostError(f"lost the session on {where}: {fault}"))

    def _adopt(self, now: float) -> None:
        """Finds new owners for groups whose own devices are gone."""
        present = {lease.device.speed_class for lease in self._leases.live}
        for lease in self._leases.idle():
            for job in self._waiting:
                group = job.group
                if group.owner is None or group.owner in present or group.adopting:
                    continue
                since = max(job.queued_at, self._leases.seen.get(group.owner, 0.0))
                if now - since > self.policy.adopt_s:
                    self._hand_over(group, lease, now)
                    break

    def _hand_over(self, group: Group, lease: Lease, now: float) -> None:
        """Has a device of another class time a group's best candidate."""
        if group.best is None:
            self._change_owner(group, lease.device, None)
            return
        group.adopting = True
        lease.state, lease.busy_since = "busy", now
        then = partial(self._adopted, lease, group)
        self._leases.call(lease, then, self.policy.timeout_s, time_artifact, group.best, RunPlan())

    def _adopted(self, lease: Lease, group: Group, future: Future[Any]) -> None:
        group.adopting = False
        done, fault = outcome(future)
        if done is None or done.lost:
            # not to be asked again: it may take the next device down as well
            group.best = None
            self._leases.lose(lease, str(fault))
            return
        self._change_owner(group, lease.device, None if fault else min(done.seconds))
        self._leases.free(lease)

    def _change_owner(self, group: Group, device: Device, best_s: float | None) -> None:
        """Puts a device's class on a group's clock.

        Parameters
        ----------
        best_s
            Seconds of the group's best candidate on the device; without them the reference kernels
            tell the ratio of both clocks.
        """
        assert group.owner is not None
        assert device.speed is not None
        if group.best_s is not None:
            if best_s is not None:
                group.scale = group.best_s / best_s
            else:
                group.scale *= self._leases.classes.speeds[group.owner].over(device.speed)
        group.owner = device.speed_class

    def _look_for_the_end(self, now: float) -> None:
        if self._leases.live or not self._waiting:
            self._alone_since = now
            return
        listed = self._leases.listed()
        limit = self.policy.busy_s if listed else self.policy.gone_s
        if now - self._alone_since <= limit:
            return
        why = f"{len(listed)} listed, none free" if listed else "none listed that works"
        if self._leases.census is None:
            why = "the tracker does not answer"
        self._give_up(
            FleetGoneError(f"no device for {limit:g} s from {self._where}: {why}; the run ends")
        )

    def _give_up(self, error: FleetGoneError) -> None:
        self.gone = error
        self._leases.warn(str(error))
        self._fail(self._waiting, error)
        self._waiting = []
        self._on_gone(error)

    @staticmethod
    def _fail(jobs: list[Job], error: Exception) -> None:
        for job in jobs:
            if not job.future.done() and job.begin():
                job.future.set_exception(error)
