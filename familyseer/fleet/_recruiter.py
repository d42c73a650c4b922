"""The thread that talks to the tracker: it counts devices and queues for those that are wanted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from familyseer.fleet._tracker import Census, Offer, Tracker

_CENSUS_EVERY_S = 2.0
# how long it listens for an offer before it looks round again
_LISTEN_S = 0.25


class Recruiter:
    """Asks the tracker for devices as long as some are wanted.

    Parameters
    ----------
    wanted
        Devices that could be used now beyond those we have. Asked from this thread.
    on_census
        Told of the devices under the key and of how many other clients wait; of None when the
        tracker does not answer.
    on_offer
        Told of a device that may be connected to; it returns once the device counts as ours.
    """

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        *,
        wanted: Callable[[], int],
        on_census: Callable[[Census | None], None],
        on_offer: Callable[[Offer], None],
    ) -> None:
        self._address = address
        self._key = key
        self._wanted = wanted
        self._on_census = on_census
        self._on_offer = on_offer
        self._closing = False
        self._wake = threading.Event()
        self._tracker: Tracker | None = None
        self._asking: Tracker | None = None
        self._thread = threading.Thread(target=self._loop, name="fleet-recruiter", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def wake(self) -> None:
        """Has it look at what is wanted at once."""
        self._wake.set()

    def close(self) -> None:
        """Stops, and withdraws what was asked for."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        try:
            while not self._closing:
                self._wake.clear()
                try:
                    self._count()
                    self._recruit()
                except OSError:
                    self._hang_up()
                    self._on_census(None)
                self._wake.wait(_CENSUS_EVERY_S)
        finally:
            self._hang_up()

    def _count(self) -> None:
        if self._tracker is None:
            self._tracker = Tracker(self._address)
        census = self._tracker.census(self._key)
        ours = 1 if self._asking is not None else 0
        self._on_census(Census(census.devices, max(0, census.pending - ours)))

    def _recruit(self) -> None:
        """Queues while something is wanted, one request at a time, and then withdraws."""
        listened = 0.0
        while self._wanted() > 0 and not self._closing:
            if self._asking is None:
                self._asking = Tracker(self._address)
                self._asking.ask(self._key)
            offer = self._asking.offer(_LISTEN_S)
            if offer is not None:
                self._stop_asking()
                self._on_offer(offer)
                continue
            listened += _LISTEN_S
            if listened >= _CENSUS_EVERY_S:
                listened = 0.0
                self._count()
        if self._asking is not None:
            # a device given to us just now would stand idle until its server notices
            offer = self._asking.offer(0.0)
            self._stop_asking()
            if offer is not None:
                self._on_offer(offer)

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _hang_up(self) -> None:
        self._stop_asking()
        if self._tracker is not None:
            with contextlib.suppress(OSError):
                self._tracker.close()
            self._tracker = None
