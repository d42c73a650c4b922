"""Trials a second with 1, 2 and 3 RPC servers on this machine, and what the tracker costs.

    python scripts/fleet_throughput.py --trials 60

Starts TVM's tracker and servers on loopback, one thread a server, and times the same built
candidates of a matrix product on this machine's own runner and on the fleet. Servers of one machine
share its cores: more of them than cores cannot be faster. Writes
``benchmarks/results/fleet_throughput.json``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from _results import save

from familyseer.fleet import FleetRunner, check_fleet
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm

KEY = "loopback"
UP_S = 300.0


@click.command()
@click.option("--trials", default=60, show_default=True, help="Candidates timed with each.")
@click.option(
    "--servers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2, 3),
    help="Servers started at a time; may be repeated.  [default: 1, 2, 3]",
)
def main(trials: int, servers: tuple[int, ...]) -> None:
    """Tell trials a second with some RPC servers on this machine."""
    # all on one thread, so that servers do not take each other's cores
    os.environ["TVM_NUM_THREADS"] = "1"
    target = resolve_target(None)
    mod = matrix_product()
    builder = WarmBuilder(workers=1, timeout_s=120)
    try:
        result, _ = builder.finish(builder.start(mod, target))
        path = str(result.artifact_path)
        args = load_tvm().s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func(mod, True)
        rows = [local(path, args, trials)]
        rows += [fleet(n, target, path, args, trials) for n in servers]
    finally:
        builder.close()
    print(f"written to {save('fleet_throughput', {'trials': trials, 'rows': rows})}")


def matrix_product(n: int = 128) -> Any:
    """An unscheduled product of two square matrices of float32."""
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    a, b = te.placeholder((n, n), name="A"), te.placeholder((n, n), name="B")
    r = te.reduce_axis((0, n), name="r")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="C")
    func = te.create_prim_func([a, b, c]).with_attr("tirx.noalias", True)
    return tvm.IRModule({"main": func.with_attr("global_symbol", "main")})


def local(path: str, args: Any, trials: int) -> dict[str, Any]:
    """This machine's runner."""
    runner = WarmRunner()
    try:
        return timed("local", runner, path, args, trials)
    finally:
        runner.close()


def fleet(servers: int, target: Any, path: str, args: Any, trials: int) -> dict[str, Any]:
    """A tracker and some servers of its own."""
    with loopback(servers) as address:
        # one machine's servers are alike, whatever noise tells
        runner = FleetRunner(address, KEY, target=target, tolerance=10.0)
        try:
            return timed(f"{servers} servers", runner, path, args, trials)
        finally:
            runner.close()


def timed(name: str, runner: Any, path: str, args: Any, trials: int) -> dict[str, Any]:
    """Trials a second and the median of the times, after one round to warm up."""

    def measure(count: int) -> list[Any]:
        return [runner.finish(f) for f in [runner.start(path, "cpu", args) for _ in range(count)]]

    measure(min(trials, 12))
    began = time.perf_counter()
    results = measure(trials)
    wall_s = time.perf_counter() - began
    seconds = [float(s) for one in results if one.error_msg is None for s in one.run_secs]
    row = {
        "runner": name,
        "trials_per_s": round(trials / wall_s, 2),
        "failed": sum(one.error_msg is not None for one in results),
        "median_us": round(1e6 * statistics.median(seconds), 1) if seconds else None,
    }
    print(row, flush=True)
    return row


@contextlib.contextmanager
def loopback(servers: int) -> Iterator[str]:
    """The address of a tracker that lists some servers."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    processes = [spawn("tvm.exec.rpc_tracker", f"--port={port}", f"--port-end={port + 1}")]
    try:
        for _ in range(servers):
            own = f"--port={free_port()}"
            processes.append(
                spawn("familyseer.fleet.serve", own, f"--tracker={address}", f"--key={KEY}")
            )
        wait_until(lambda: listed(port) == servers)
        check_fleet(address, KEY)
        yield address
    finally:
        for process in processes:
            # TVM serves from grandchildren
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def spawn(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, "--host=127.0.0.1", "--silent", *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listed(port: int) -> int:
    from familyseer.fleet._tracker import Tracker

    tracker = Tracker(("127.0.0.1", port))
    try:
        return len(tracker.census(KEY).devices)
    finally:
        tracker.close()


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UP_S
    while True:
        with contextlib.suppress(OSError):
            if ready():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the servers are not up after {UP_S:g} s")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
