"""Candidates timed on real devices behind a real tracker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from familyseer.errors import UserError
from familyseer.fleet import FleetGoneError, FleetRunner, check_fleet
from familyseer.fleet._policy import Policy
from familyseer.fleet._tracker import Tracker as Client
from familyseer.measure import WarmRunner
from familyseer.measure._measure import measure
from familyseer.tvm_env import load_tvm
from tests.familyseer.fleet.candidates import args_of, build, crashing
from tests.familyseer.fleet.conftest import KEY, Tracker

# devices on one machine disturb each other, so any two of them count as alike
ALIKE = 100.0
PATIENT = {"timeout_s": 60.0, "tolerance": ALIKE}


@pytest.fixture(scope="module")
def devices(tracker: Tracker) -> list[str]:
    names = [tracker.add(), tracker.add()]
    tracker.wait(*names)
    return names


@pytest.fixture
def fleet(tracker: Tracker, devices: list[str], cpu: Any) -> Iterator[FleetRunner]:
    runner = FleetRunner(tracker.address, KEY, target=cpu, **PATIENT)
    yield runner
    runner.close()


def results(runner: Any, futures: list[Any]) -> list[Any]:
    return [runner.finish(future) for future in futures]


def test_candidates_of_a_model_take_as_long_as_with_the_local_runner(
    fleet: FleetRunner, builder: Any, cpu: Any
) -> None:
    from familyseer.models import load_model
    from familyseer.search._proposals import new_context
    from familyseer.subgraphs import extract_subgraphs, fuse

    subgraphs = extract_subgraphs(fuse(load_model("mlp").mod, cpu), cpu)
    largest = max(subgraphs, key=lambda subgraph: subgraph.flops)
    context = new_context(largest, cpu, 0, 1)
    schedules = list(context.generate_design_space())[:2]
    local = WarmRunner(timeout_s=60)
    try:
        here, _, _ = measure(schedules, context, builder, local)
    finally:
        local.close()
    there, _, _ = measure(schedules, context, builder, fleet)
    assert len(here) == len(there) == len(schedules)
    for one, other in zip(here, there, strict=True):
        assert other.runner_result.error_msg is None
        assert len(other.runner_result.run_secs) == fleet.plan.repeats
        assert 0.1 < other.run_s / one.run_s < 10


def test_a_large_model_has_the_caches_written_back_between_runs(
    fleet: FleetRunner, builder: Any, make_dense: Callable[..., Any], cpu: Any
) -> None:
    from dataclasses import replace

    from familyseer.measure._timing import FLUSH_BYTES

    mod = make_dense().mod
    path = build(builder, mod, cpu)
    fleet.plan = replace(fleet.plan, working_set_bytes=FLUSH_BYTES)
    (cold,) = results(fleet, [fleet.start(path, "cpu", args_of(mod))])
    assert cold.error_msg is None
    assert len(cold.run_secs) == fleet.plan.repeats
    fleet.plan = replace(fleet.plan, working_set_bytes=FLUSH_BYTES - 1)
    (warm,) = results(fleet, [fleet.start(path, "cpu", args_of(mod))])
    assert warm.error_msg is None
    used = fleet.devices()
    assert (sum(one.done for one in used), sum(one.cold for one in used)) == (2, 1)


def test_a_crash_costs_its_own_trial_and_the_devices_serve_on(
    fleet: FleetRunner, builder: Any, make_dense: Callable[..., Any], cpu: Any
) -> None:
    good, bad = make_dense().mod, crashing()
    good_path, bad_path = build(builder, good, cpu), build(builder, bad, cpu)
    futures = [fleet.start(bad_path, "cpu", args_of(bad))]
    futures += [fleet.start(good_path, "cpu", args_of(good)) for _ in range(4)]
    crashed, *others = results(fleet, futures)
    assert crashed.error_msg is not None
    assert "lost the session" in crashed.error_msg
    assert [one.error_msg for one in others] == [None] * 4
    again = results(fleet, [fleet.start(good_path, "cpu", args_of(good)) for _ in range(4)])
    assert [one.error_msg for one in again] == [None] * 4
    assert sum(device.lost for device in fleet.devices()) == 2


def test_a_slow_candidate_is_cut_off_after_its_first_runs(
    fleet: FleetRunner, builder: Any, make_dense: Callable[..., Any], cpu: Any
) -> None:
    mod = make_dense().mod
    result = fleet.finish(fleet.start(build(builder, mod, cpu), "cpu", args_of(mod), 1e-9))
    assert len(result.run_secs) == 1


def test_stock_metaschedule_can_use_it(
    fleet: FleetRunner, builder: Any, make_dense: Callable[..., Any], cpu: Any
) -> None:
    ms = load_tvm().s_tir.meta_schedule
    mod = make_dense().mod
    inputs = [ms.runner.RunnerInput(build(builder, mod, cpu), "cpu", args_of(mod))]
    # through C++, as a task scheduler calls it
    (future,) = ms.runner.Runner.run(fleet, inputs)
    result = future.result()
    assert result.error_msg is None
    assert all(float(s) > 0 for s in result.run_secs)


def test_devices_may_leave_and_join_between_and_amid_jobs(
    fleet: FleetRunner,
    tracker: Tracker,
    devices: list[str],
    builder: Any,
    make_dense: Callable[..., Any],
    cpu: Any,
) -> None:
    mod = make_dense().mod
    path, args = build(builder, mod, cpu), args_of(mod)
    joining = tracker.add()
    futures = [fleet.start(path, "cpu", args) for _ in range(30)]
    fleet.finish(futures[0])
    tracker.kill(devices[0])
    assert [one.error_msg for one in results(fleet, futures)] == [None] * 30
    tracker.wait(joining)
    deadline = time.monotonic() + 120
    while joining not in {device.name for device in fleet.devices()}:
        assert time.monotonic() < deadline
        more = results(fleet, [fleet.start(path, "cpu", args) for _ in range(6)])
        assert [one.error_msg for one in more] == [None] * 6


def test_a_device_is_handed_on_to_others_who_wait(
    fleet: FleetRunner,
    tracker: Tracker,
    builder: Any,
    make_dense: Callable[..., Any],
    cpu: Any,
) -> None:
    mod = make_dense().mod
    path, args = build(builder, mod, cpu), args_of(mod)
    other = Client(("127.0.0.1", tracker.port))
    futures = [fleet.start(path, "cpu", args) for _ in range(20)]
    fleet.finish(futures[0])
    other.ask(KEY)
    offer = None
    deadline = time.monotonic() + 120
    while offer is None:
        # the fleet has work all the while
        futures += [fleet.start(path, "cpu", args) for _ in range(4)]
        offer = other.offer(0.5)
        assert time.monotonic() < deadline
    other.close()
    assert all(one.error_msg is None for one in results(fleet, futures))


def test_an_unknown_key_is_told_with_those_that_are_known(
    tracker: Tracker, devices: list[str]
) -> None:
    with pytest.raises(UserError, match=rf"--device-key other: .*{KEY} \(\d\)"):
        check_fleet(tracker.address, "other")


def test_jobs_end_the_run_when_all_devices_are_gone(
    tracker: Tracker, builder: Any, make_dense: Callable[..., Any], cpu: Any
) -> None:
    name = tracker.add(key="shortlived")
    tracker.wait(name)
    told: list[FleetGoneError] = []
    runner = FleetRunner(
        tracker.address,
        "shortlived",
        target=cpu,
        policy=Policy(gone_s=3.0),
        on_gone=told.append,
        **PATIENT,
    )
    try:
        mod = make_dense().mod
        path = build(builder, mod, cpu)
        tracker.kill(name)
        with pytest.raises(FleetGoneError, match="shortlived"):
            runner.finish(runner.start(path, "cpu", args_of(mod)))
        assert len(told) == 1
        assert runner.gone is told[0]
        with pytest.raises(FleetGoneError):
            runner.finish(runner.start(path, "cpu", args_of(mod)))
    finally:
        runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.start(path, "cpu", args_of(mod))
