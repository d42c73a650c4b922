"""TVM's real tracker and real servers on loopback, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

KEY = "testdevice"
# a slow machine takes long to import TVM in several processes at once
UP_S = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tracker:
    """A tracker and the servers that were started for it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.process = _spawn(
            "tvm.exec.rpc_tracker", "--host=127.0.0.1", *_ports(self.port), "--silent"
        )

    def add(self, *extra: str, module: str = "familyseer.fleet.serve", key: str = KEY) -> str:
        """Starts a server and gives its address; `wait` sees it registered."""
        port = free_port()
        ports = _ports(port) if module == "tvm.exec.rpc_server" else [f"--port={port}"]
        self.servers[f"127.0.0.1:{port}"] = _spawn(
            module, "--host=127.0.0.1", *ports, f"--tracker={self.address}", f"--key={key}", *extra
        )
        return f"127.0.0.1:{port}"

    def kill(self, address: str) -> None:
        """Ends a server and its sessions at once, as a power cut would."""
        _kill(self.servers.pop(address))

    def wait(self, *addresses: str) -> None:
        """Waits until the tracker lists these servers."""
        from familyseer.fleet._tracker import Tracker as Client

        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                client = Client(("127.0.0.1", self.port))
                listed = client.summary()["server_info"]
                client.close()
                if set(addresses) <= {f"{one['addr'][0]}:{one['addr'][1]}" for one in listed}:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the tracker does not list {addresses}")

    def close(self) -> None:
        for process in [*self.servers.values(), self.process]:
            _kill(process)


def _ports(port: int) -> list[str]:
    return [f"--port={port}", f"--port-end={port + 1}"]


def _spawn(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    # a group of its own, since TVM serves from a grandchild that outlives a killed parent
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # several servers share this machine's cores
        env={**os.environ, "TVM_NUM_THREADS": "1"},
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    made = Tracker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def builder() -> Iterator[Any]:
    from familyseer.measure import WarmBuilder

    made = WarmBuilder(workers=1, timeout_s=120)
    yield made
    made.close()
