"""Candidates on real GPUs: timed without compiling, and what a bad kernel does to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from familyseer.errors import UserError
from familyseer.measure import GpuRunner, WarmBuilder
from familyseer.measure._measure import Measured, measure
from familyseer.measure._timing import RunPlan
from familyseer.tvm_env import load_tvm
from tests.familyseer.measure.cuda_modules import candidate, cuda_target, doubles

N = 1 << 20
PLAN = RunPlan(repeats=3, repeat_ms=2.0)


@pytest.fixture(scope="module")
def runner() -> Iterator[GpuRunner]:
    try:
        made = GpuRunner(timeout_s=60.0, plan=PLAN)
    except UserError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def builder() -> Iterator[WarmBuilder]:
    made = WarmBuilder(workers=2, timeout_s=120)
    yield made
    made.close()


@pytest.fixture(scope="module")
def target(runner: GpuRunner) -> Any:
    return cuda_target(runner.gpus()[0]["arch"])


def run(mods: list[Any], target: Any, builder: Any, runner: Any, **options: Any) -> list[Measured]:
    tvm = load_tvm(intrinsics=True)
    context = tvm.s_tir.meta_schedule.TuneContext(mod=mods[0], target=target)
    schedules = [tvm.s_tir.Schedule(mod) for mod in mods]
    done, _, _ = measure(schedules, context, builder, runner, **options)
    return done


def faulty() -> Any:
    """Writes far beyond its array."""
    return candidate(
        f"""
for b in T.thread_binding({N // 128}, thread="blockIdx.x"):
    for t in T.thread_binding(128, thread="threadIdx.x"):
        with T.sblock("stray"):
            v = T.axis.spatial({N}, b * 128 + t)
            B[v + T.cast(A[v] * A[v], "int32") * 0 + 2000000000] = A[v]
""",
        N,
    )


def endless() -> Any:
    return candidate(
        """
for t in T.thread_binding(32, thread="threadIdx.x"):
    with T.sblock("stuck"):
        v = T.axis.spatial(32, t)
        B[v] = T.float32(0)
        while B[v] < T.float32(1):
            B[v] = A[v] * T.float32(0)
""",
        N,
    )


def forbid_compiling() -> None:
    def refuse(_code: str) -> bytes:
        raise AssertionError("a candidate was compiled where it is measured")

    load_tvm().register_global_func("tvm_callback_cuda_compile", refuse, override=True)


def test_a_candidate_is_timed_and_not_compiled_again(
    target: Any, builder: WarmBuilder, runner: GpuRunner
) -> None:
    for worker in range(len(runner.gpus())):
        runner.pool.submit(forbid_compiling, worker=worker).result(timeout=120)
    done = run([doubles(t, N) for t in (64, 128, 256)], target, builder, runner)
    for one in done:
        assert one.runner_result.error_msg is None
        # 8 MB move at no more than some TB/s, and at no less than PCI Express does
        assert 5e-7 < one.run_s < 5e-3


@pytest.mark.parametrize("bad", [faulty, endless])
def test_a_bad_kernel_costs_itself_only(
    bad: Any, target: Any, builder: WarmBuilder, runner: GpuRunner
) -> None:
    runner.timeout_s = 15.0
    # of each as many as make sure that the good ones share a GPU with the bad
    gpus = len(runner.gpus())
    mods = [bad()] * gpus + [doubles(128, N)] * gpus
    done = run(mods, target, builder, runner)
    assert all(one.run_failed for one in done[:gpus])
    assert all(not one.run_failed and one.run_s < 5e-3 for one in done[gpus:])
    assert all(gpu["lost"] is None for gpu in runner.gpus())


def test_a_cold_cache_is_slower_than_a_warm_one(
    target: Any, builder: WarmBuilder, runner: GpuRunner
) -> None:
    # what the kernel touches fits the L2 cache of any GPU of the data centre
    l2 = runner.gpus()[0]["l2_bytes"]
    if l2 < 4 * 8 * N // 4:
        pytest.skip(f"an L2 cache of {l2} bytes does not hold the arrays")
    plan = runner.plan
    try:
        runner.plan = RunPlan(repeats=3, repeat_ms=4.0)
        (warm,) = run([doubles(256, N // 4)], target, builder, runner)
        runner.plan = RunPlan(repeats=3, repeat_ms=4.0, working_set_bytes=16 * l2)
        (cold,) = run([doubles(256, N // 4)], target, builder, runner)
    finally:
        runner.plan = plan
    assert cold.run_s > warm.run_s


def test_a_winner_is_confirmed_and_the_gpus_report(
    target: Any, builder: WarmBuilder, runner: GpuRunner
) -> None:
    done = run([doubles(t, N) for t in (32, 128, 512)], target, builder, runner, confirm=True)
    best = min(done, key=lambda one: one.run_s)
    # timed once, then in turns
    assert len(best.runner_result.run_secs) > PLAN.repeats
    best.discard()
    for gpu in runner.gpus():
        assert gpu["arch"].startswith("sm_")
        assert gpu["timed"] > 0
        assert gpu["clocks"]["sm_mhz"] is None or gpu["clocks"]["sm_mhz"][0] > 100


def test_a_gpu_behind_rpc_is_timed_with_its_cache_written_over(
    target: Any, builder: WarmBuilder, runner: GpuRunner
) -> None:
    pytest.importorskip("tornado", reason="TVM's tracker needs tornado")
    from familyseer.fleet import FleetRunner
    from tests.familyseer.fleet.conftest import KEY, Tracker

    l2 = runner.gpus()[0]["l2_bytes"]
    tracker = Tracker()
    try:
        tracker.wait(tracker.add())
        fleet = FleetRunner(tracker.address, KEY, target=target, timeout_s=60.0)
        try:
            fleet.plan = RunPlan(repeats=3, repeat_ms=2.0)
            (warm,) = run([doubles(256, N // 4)], target, builder, fleet)
            fleet.plan = RunPlan(repeats=3, repeat_ms=2.0, working_set_bytes=16 * l2)
            (cold,) = run([doubles(256, N // 4)], target, builder, fleet)
            (device,) = fleet.devices()
        finally:
            fleet.close()
    finally:
        tracker.close()
    assert (warm.runner_result.error_msg, cold.runner_result.error_msg) == (None, None)
    assert (device.done, device.cold) == (2, 1)
    assert all(5e-7 < one.run_s < 5e-3 for one in (warm, cold))
