"""Measuring on several GPUs: real workers, pretended devices; real candidates in tests/gpu."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from familyseer.errors import UserError
from familyseer.measure import GpuRunner, WarmBuilder
from familyseer.measure import _gpu_runner as gpu_runner
from familyseer.measure._gpu_runner import GpusGoneError
from familyseer.measure._gpus import VISIBLE, Gpu, alike, can_run, visible_names
from familyseer.measure._measure import OutOfTimeError, measure
from familyseer.measure._timing import RunPlan
from tests.familyseer.measure import jobs

MakeRunner = Callable[..., GpuRunner]


def gpu(name: str, model: str = "NVIDIA H200") -> Gpu:
    return Gpu(name, model, "sm_90", 132)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRunner]:
    """Runners whose workers pretend; see `jobs.pretend_gpu`."""
    monkeypatch.setattr(gpu_runner, "run_candidate", jobs.pretend_gpu)
    made: list[GpuRunner] = []

    def runner(*names: str, **options: Any) -> GpuRunner:
        options = {"timeout_s": 60.0, **options}
        made.append(GpuRunner([gpu(name) for name in names], **options))
        return made[-1]

    yield runner
    for one in made:
        one.close()


@pytest.fixture
def candidate(tmp_path: Path) -> Callable[[str], str]:
    def write(what: str) -> str:
        path = tmp_path / f"{what}.so"
        path.write_text(what)
        return str(path)

    return write


def process(result: Any) -> int:
    assert result.error_msg is None
    return int(float(result.run_secs[0]))


def test_each_worker_sees_its_own_gpu(make: MakeRunner) -> None:
    runner = make("0", "GPU-5d1f")
    told = [runner.pool.submit(jobs.environment, VISIBLE, worker=i).result(60) for i in (0, 1, 0)]
    assert told == ["0", "GPU-5d1f", "0"]


def test_candidates_go_to_all_gpus(make: MakeRunner, candidate: Callable[[str], str]) -> None:
    runner = make("0", "1")
    futures = [runner.start(candidate("good"), "cuda", ()) for _ in range(12)]
    assert len({process(runner.finish(future)) for future in futures}) == 2
    timed = [one["timed"] for one in runner.gpus()]
    assert sum(timed) == 12
    assert min(timed) >= 1
    assert all(one["busy_s"] >= 0.05 * one["timed"] for one in runner.gpus())


def test_what_is_timed_in_turns_is_timed_on_one_gpu(
    make: MakeRunner, candidate: Callable[[str], str]
) -> None:
    runner = make("0", "1")
    futures = [runner.start_again(candidate("good"), "cuda", ()) for _ in range(4)]
    assert len({process(runner.finish(future)) for future in futures}) == 1


def test_what_others_wait_for_goes_first(make: MakeRunner, candidate: Callable[[str], str]) -> None:
    runner = make("0")
    ended: list[str] = []

    def start(name: str, priority: float) -> Any:
        future = runner.start(candidate("good"), "cuda", (), priority=priority)
        future.add_done_callback(lambda _: ended.append(name))
        return future

    # the first is taken before the others are there
    futures = [start("first", 0.0)]
    until = time.monotonic() + 60
    while not any(job for job in runner.pool._slots if job._call) and time.monotonic() < until:
        time.sleep(0.001)
    futures += [start("few wait", 1.0), start("nobody waits", 0.0), start("many wait", 5.0)]
    for future in futures:
        runner.finish(future)
    assert ended == ["first", "many wait", "few wait", "nobody waits"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("fault", "run failed: RuntimeError: CUDA: an illegal memory access was encountered"),
        ("hang", "run failed: took longer than its time limit of 2 s"),
    ],
)
def test_a_bad_kernel_costs_its_process_and_the_gpu_is_used_on(
    make: MakeRunner, candidate: Callable[[str], str], what: str, told: str
) -> None:
    runner = make("0", timeout_s=60.0)
    before = process(runner.finish(runner.start(candidate("good"), "cuda", ())))
    runner.timeout_s = 2.0 if what == "hang" else 60.0
    bad = runner.start(candidate(what), "cuda", ())
    runner.timeout_s = 60.0
    good = runner.start(candidate("good"), "cuda", ())
    assert str(runner.finish(bad).error_msg) == told
    assert process(runner.finish(good)) != before
    (only,) = runner.gpus()
    assert (only["timed"], only["failed"], only["lost"]) == (2, 1, None)


def test_a_gpu_that_does_not_work_is_given_up_and_no_candidate_is_blamed(
    make: MakeRunner, candidate: Callable[[str], str]
) -> None:
    runner = make("broken", "1")
    futures = [runner.start(candidate("good"), "cuda", ()) for _ in range(8)]
    assert len({process(runner.finish(future)) for future in futures}) >= 1
    again = [runner.start_again(candidate("good"), "cuda", ()) for _ in range(2)]
    assert len({process(runner.finish(future)) for future in again}) == 1
    until = time.monotonic() + 60
    while not runner.warnings() and time.monotonic() < until:
        runner.finish(runner.start_again(candidate("good"), "cuda", ()))
    broken, working = runner.gpus()
    assert broken["lost"] == "the GPU cannot be used: out of memory"
    assert (broken["timed"], working["lost"]) == (0, None)
    assert runner.warnings() == ["GPU broken is given up: the GPU cannot be used: out of memory"]
    assert runner.gone is None


def test_without_any_gpu_left_the_run_ends_and_no_candidate_fails(
    make: MakeRunner, candidate: Callable[[str], str]
) -> None:
    told = threading.Event()
    runner = make("broken", on_gone=lambda _error: told.set())
    first, second = (runner.start(candidate("good"), "cuda", ()) for _ in range(2))
    for future in (first, second, runner.start(candidate("good"), "cuda", ())):
        with pytest.raises(GpusGoneError, match="no GPU of this host works any more"):
            runner.finish(future)
    assert told.wait(60)
    assert isinstance(runner.gone, OutOfTimeError)


def test_a_gpu_that_is_not_there_is_lost_for_real(tmp_path: Path) -> None:
    runner = GpuRunner([gpu("-1")], timeout_s=60.0)
    try:
        with pytest.raises(GpusGoneError, match="the GPU cannot be used"):
            runner.finish(runner.start(str(tmp_path / "any.so"), "cuda", ()))
    finally:
        runner.close()


def test_a_run_that_is_given_up_frees_its_gpu(
    make: MakeRunner, candidate: Callable[[str], str]
) -> None:
    runner = make("0")
    with pytest.raises(OutOfTimeError):
        runner.finish(runner.start(candidate("hang"), "cuda", ()), lambda: 0.0)
    process(runner.finish(runner.start(candidate("good"), "cuda", ())))


def test_only_gpus_of_the_first_ones_kind_compare_candidates() -> None:
    gpus = [gpu("0"), gpu("1", "NVIDIA L4"), gpu("2"), gpu("3", "NVIDIA L4"), gpu("4", "Tesla T4")]
    kept, warnings = alike(gpus)
    assert [one.name for one in kept] == ["0", "2"]
    assert warnings == [
        "2 x NVIDIA L4 are left alone: candidates are compared on 2 x NVIDIA H200 only",
        "1 x Tesla T4 is left alone: candidates are compared on 2 x NVIDIA H200 only",
    ]


def test_gpus_are_named_as_the_environment_names_them() -> None:
    assert visible_names({})[:2] == ["0", "1"]
    assert visible_names({VISIBLE: "3, GPU-5d1f"}) == ["3", "GPU-5d1f"]
    assert visible_names({VISIBLE: ""}) == []


def test_code_runs_on_its_own_generation_from_its_own_version_on() -> None:
    assert can_run("sm_90", "sm_90")
    assert can_run("sm_89", "sm_80")
    assert not can_run("sm_80", "sm_86")
    assert not can_run("sm_100", "sm_90")
    assert can_run("sm_90", "sm_90a")
    assert not can_run("sm_103", "sm_100a")
    assert can_run("sm_121", "sm_120f")


def test_a_target_for_other_gpus_is_refused() -> None:
    with pytest.raises(UserError, match=r"target sm_80: .* NVIDIA H200 \(sm_90\)"):
        GpuRunner([gpu("0")], arch="sm_80")


def test_a_host_without_gpus_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected one to measure on"):
        GpuRunner([])
    monkeypatch.setattr(gpu_runner, "list_gpus", os.abort)
    with pytest.raises(UserError, match=r"SIGABRT.*expected one to measure on"):
        GpuRunner()


def test_real_candidates_are_measured_in_parallel_and_compared(
    cpu: Any, make_dense: Any, tmp_path: Path
) -> None:
    from familyseer.search._proposals import new_context

    context = new_context(make_dense(), cpu, seed=0, threads=2)
    builder = WarmBuilder(workers=2, timeout_s=60)
    # on a CPU, which a GPU's worker can do as well
    runner = GpuRunner([gpu("0"), gpu("1")], timeout_s=60, plan=RunPlan(repeats=3, repeat_ms=1))
    try:
        schedules = list(context.generate_design_space()) * 3
        done, _, _ = measure(schedules, context, builder, runner, confirm=True, group="g")
        assert len(done) == len(schedules)
        assert all(0 < one.run_s < 1 for one in done)
        for one in done:
            one.discard()
    finally:
        builder.close()
        runner.close()
