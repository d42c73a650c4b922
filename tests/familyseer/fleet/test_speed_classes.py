"""A fast and a slow device in one fleet: their times are never mixed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from familyseer.fleet import FleetRunner
from familyseer.fleet._policy import Policy
from familyseer.fleet._speed import Speed, SpeedClasses
from tests.familyseer.fleet.candidates import args_of, build
from tests.familyseer.fleet.conftest import KEY, Tracker
from tests.familyseer.fleet.slow_server import FACTOR

# two honest timings on a shared machine are nearer than this, and far nearer than FACTOR
NOISE = 8.0


@pytest.fixture
def mixed(tracker: Tracker, cpu: Any) -> Iterator[tuple[FleetRunner, str, str]]:
    fast = tracker.add()
    slow = tracker.add(module="tests.familyseer.fleet.slow_server")
    tracker.wait(fast, slow)
    runner = FleetRunner(
        tracker.address,
        KEY,
        target=cpu,
        timeout_s=60,
        tolerance=NOISE - 1,
        policy=Policy(adopt_s=1.0, idle_s=60.0),
    )
    yield runner, fast, slow
    runner.close()


def seconds_of(runner: FleetRunner, futures: list[Any]) -> list[float]:
    done = [runner.finish(future) for future in futures]
    assert [one.error_msg for one in done] == [None] * len(done)
    return [min(map(float, one.run_secs)) for one in done]


def test_a_subgraph_stays_on_one_clock_even_when_its_devices_go(
    mixed: tuple[FleetRunner, str, str],
    tracker: Tracker,
    builder: Any,
    make_dense: Callable[..., Any],
    cpu: Any,
) -> None:
    runner, fast, slow = mixed
    assert FACTOR > NOISE**1.5
    mod = make_dense(n=128, m=128, k=128).mod
    path, args = build(builder, mod, cpu), args_of(mod)

    def measure(count: int) -> list[float]:
        return seconds_of(
            runner, [runner.start(path, "cpu", args, group="a") for _ in range(count)]
        )

    before = measure(8)
    deadline = time.monotonic() + 120
    while sum(device.speed_class is not None for device in runner.devices()) < 2:
        assert time.monotonic() < deadline
        before += measure(4)
    # one owner: neither did the other take a job, nor are there times from it
    assert {device.speed_class for device in runner.devices()} == {0, 1}
    assert sorted(device.done for device in runner.devices()) == [0, len(before)]
    assert max(before) < NOISE * min(before)

    owner = next(device.name for device in runner.devices() if device.done)
    tracker.kill(owner)
    after = measure(4)
    # the other device measured them, and its times were put on the first one's clock
    other = slow if owner == fast else fast
    assert {d.name: d.done for d in runner.devices()}[other] == 4
    assert max(after) < NOISE * min(before)
    assert min(after) > max(before) / NOISE


def test_devices_are_alike_when_no_kernel_tells_them_apart() -> None:
    classes = SpeedClasses(0.05)
    assert classes.place(Speed((1.0, 2.0))) == 0
    assert classes.place(Speed((1.04, 1.94))) == 0
    # as fast in computing, slower in memory
    assert classes.place(Speed((1.0, 3.0))) == 1
    assert classes.place(Speed((1.02, 2.95))) == 1


def test_a_device_joins_the_nearest_of_two_classes() -> None:
    classes = SpeedClasses(0.05)
    classes.place(Speed((1.0, 1.0)))
    classes.place(Speed((1.08, 1.08)))
    assert classes.place(Speed((1.05, 1.05))) == 1
    assert classes.place(Speed((1.03, 1.03))) == 0


def test_ratios_of_speeds_are_geometric_means() -> None:
    assert Speed((2.0, 8.0)).over(Speed((1.0, 1.0))) == pytest.approx(4.0)
    assert Speed((2.0, 1.0)).best_of(Speed((1.0, 2.0))) == Speed((1.0, 1.0))
