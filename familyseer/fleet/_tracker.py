"""The client's side of TVM's tracker protocol: who is there, and please give me one.

The protocol is described in ``tvm/rpc/tracker.py``. TVM's own client hides which device it was
given, waits a minute for a tracker that is not there, and cannot take a request back; so this one
speaks the protocol with time limits and answers with addresses.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from familyseer.errors import UserError
from familyseer.fleet._address import parse_tracker
from familyseer.tvm_env import load_tvm

ANSWER_S = 5.0


class NoTrackerError(OSError):
    """What answers at the address is no tracker."""


@dataclass(frozen=True)
class Offer:
    """A device that the tracker lets us connect to, once, within a few seconds."""

    host: str
    port: int
    match_key: str

    @property
    def device(self) -> str:
        """The device's name: the address of its server."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Census:
    """What a tracker knows of one key.

    Attributes
    ----------
    devices
        Addresses of the servers registered under the key, busy ones too.
    pending
        Requests that wait for one of them, ours included.
    """

    devices: frozenset[str]
    pending: int


class Tracker:
    """One connection to a tracker; a request occupies it until it is answered or closed.

    Raises
    ------
    OSError
        From every method: the tracker cannot be reached, fell silent, or is none.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        load_tvm()
        from tvm.rpc import base

        self._base = base
        self._socket = socket.create_connection(address, timeout=ANSWER_S)
        try:
            self._socket.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            magic = struct.unpack("<i", base.recvall(self._socket, 4))[0]
        except OSError as error:
            self.close()
            raise NoTrackerError(f"no tracker's greeting ({error})") from None
        if magic != base.RPC_TRACKER_MAGIC:
            self.close()
            raise NoTrackerError("no tracker's greeting")

    def close(self) -> None:
        """Hangs up; the tracker forgets what was asked for."""
        self._socket.close()

    def summary(self) -> dict[str, Any]:
        """What TVM's ``query_rpc_tracker`` shows: ``queue_info`` and ``server_info``."""
        self._base.sendjson(self._socket, [self._base.TrackerCode.SUMMARY])
        summary: dict[str, Any] = self._answer()
        return summary

    def census(self, key: str) -> Census:
        """The part of the summary that is about one key."""
        summary = self.summary()
        try:
            devices = frozenset(
                f"{info['addr'][0]}:{info['addr'][1]}"
                for info in summary["server_info"]
                if info["key"] == f"server:{key}"
            )
            pending = int(summary["queue_info"].get(key, {}).get("pending", 0))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise NoTrackerError(f"a summary that is no tracker's ({error!r})") from None
        return Census(devices, pending)

    def ask(self, key: str) -> None:
        """Queues for a device; `offer` tells when our turn has come."""
        code = self._base.TrackerCode.REQUEST
        self._base.sendjson(self._socket, [code, key, "familyseer", 1])

    def offer(self, wait_s: float) -> Offer | None:
        """The device that was asked for, or None if it is not our turn within `wait_s`."""
        if not select.select([self._socket], [], [], wait_s)[0]:
            return None
        host, port, match_key = self._answer()
        return Offer(str(host), int(port), str(match_key))

    def _answer(self) -> Any:
        try:
            code, value = self._base.recvjson(self._socket)
        except (ValueError, TypeError, struct.error) as error:
            raise NoTrackerError(f"an answer that is no tracker's ({error})") from None
        if code != self._base.TrackerCode.SUCCESS:
            raise NoTrackerError(f"the tracker refused with code {code}")
        return value


def check_fleet(tracker: str, key: str) -> None:
    """Sees to it that a tracker is there and knows at least one device of a key.

    Parameters
    ----------
    tracker
        As `parse_tracker` takes it.

    Raises
    ------
    UserError
        Nothing answers at the address, no tracker does, or it lists no device of that key.
    """
    address = parse_tracker(tracker)
    try:
        connection = Tracker(address)
        try:
            summary = connection.summary()
        finally:
            connection.close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UserError(
            f"--tracker {tracker}: {reason}; expected a TVM RPC tracker there "
            "(python -m tvm.exec.rpc_tracker starts one)"
        ) from None
    found = Counter(str(info["key"]).partition(":")[2] for info in summary["server_info"])
    if not found[key]:
        others = ", ".join(f"{name} ({count})" for name, count in sorted(found.items()) if count)
        raise UserError(
            f"--device-key {key}: the tracker at {tracker} lists no device of that key; "
            f"it lists {others or 'no device at all'}"
        )
