"""Candidates that misbehave for real cost one trial each; those beside them are measured right."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from familyseer.measure import WarmBuilder, WarmRunner, _workers
from familyseer.measure._measure import Measured, measure
from familyseer.measure._timing import RunPlan
from familyseer.tvm_env import load_tvm
from tests.familyseer.measure import jobs

SCRIPT = """
# from tvm.script import ir as I
# from tvm.script import tirx as T
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def main(A: T.Buffer((64, 64), "float32"), B: T.Buffer((64, 64), "float32"),
             C: T.Buffer((64, 64), "float32")):
        T.func_attr({{"tirx.noalias": True}})
        for i in range(64):
            with T.sblock("hostile"):
                vi = T.axis.spatial(64, i)
                C[vi, 0] = T.float32(0)
{body}
"""
SEGFAULT = ['T.evaluate(T.call_extern("uint64", "strlen", T.int64(0)))']
ABORT = ['T.evaluate(T.call_extern("int32", "abort"))']
EXIT = ['T.evaluate(T.call_extern("int32", "_exit", 0))']
ENDLESS = ["while C[vi, 0] < T.float32(1):", "    C[vi, 0] = A[vi, 0] * T.float32(0)"]
ALLOCATION = [
    "while C[vi, 0] < T.float32(1):",
    "    C[vi, 0] = A[vi, 0] * T.float32(0)",
    '    T.evaluate(T.call_extern("int64", "memset",',
    '        T.call_extern("int64", "malloc", T.int64(16777216)), 1, T.int64(16777216)))',
]
FLOOD = [
    "while C[vi, 0] < T.float32(1):",
    "    C[vi, 0] = A[vi, 0] * T.float32(0)",
    '    T.evaluate(T.call_extern("int32", "puts", "noise of a candidate"))',
]
# two children in all, however often the candidate is run
FORKS = [
    'if T.call_extern("int64", "getenv", "HOSTILE") == T.int64(0):',
    '    T.evaluate(T.call_extern("int32", "setenv", "HOSTILE", "1", 1))',
    "    for _ in range(2):",
    '        if T.call_extern("int32", "fork") == 0:',
    '            T.evaluate(T.call_extern("int32", "sleep", 600))',
]
# the process dies 0.2 s after the candidate that did this has answered
TIME_BOMB = ['T.evaluate(T.call_extern("int32", "ualarm", 200000, 0))']


def hostile(body: list[str]) -> Any:
    """A schedule of the context's signature whose program does `body`."""
    tvm = load_tvm(intrinsics=True)
    text = SCRIPT.format(body="\n".join(" " * 16 + line for line in body))
    return tvm.s_tir.Schedule(tvm.script.from_source(text))


@pytest.fixture(scope="module")
def builder() -> Iterator[WarmBuilder]:
    made = WarmBuilder(workers=2, timeout_s=120, memory_mib=512)
    yield made
    made.close()


@pytest.fixture(scope="module")
def runner() -> Iterator[WarmRunner]:
    made = WarmRunner(timeout_s=120, memory_mib=512)
    yield made
    made.close()


@pytest.fixture(scope="module")
def context(cpu: Any, make_dense: Any) -> Any:
    from familyseer.search._proposals import new_context

    return new_context(make_dense(), cpu, seed=0, threads=2)


@pytest.fixture(scope="module", autouse=True)
def worker_ids() -> Iterator[set[int]]:
    """Process ids of all workers that were started."""
    started: set[int] = set()

    class Noted(_workers.Worker):
        def __init__(self, limits: Any) -> None:
            super().__init__(limits)
            started.add(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_workers, "Worker", Noted)
        yield started


@pytest.fixture(autouse=True)
def nothing_is_left_over(builder: WarmBuilder, worker_ids: set[int]) -> Iterator[None]:
    """Neither processes that candidates started nor files of builds."""
    yield
    until = time.monotonic() + 60
    while (left := started_by(worker_ids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    assert os.listdir(builder.folder) == []


def started_by(worker_ids: set[int]) -> list[int]:
    """Living processes in the workers' sessions that are no workers."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            theirs = os.getsid(process.pid) in worker_ids and process.pid not in worker_ids
            if theirs and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def reason(one: Measured) -> str:
    told = str(one.runner_result.error_msg)
    assert math.isinf(one.run_s)
    assert one.runner_result.run_secs is None
    assert told.isprintable()
    assert len(told) <= 300
    return told


def assert_right(one: Measured) -> None:
    assert one.runner_result.error_msg is None
    assert len(one.runner_result.run_secs) == 3
    assert 0 < one.run_s < 1


@pytest.mark.parametrize(
    ("body", "limit_s", "told"),
    [
        (SEGFAULT, 120, "run failed: its process was killed by SIGSEGV"),
        (ABORT, 120, "run failed: its process was killed by SIGABRT"),
        (EXIT, 120, "run failed: its process ended by itself with exit code 0"),
        (ENDLESS, 5, "run failed: took longer than its time limit of 5 s"),
        (ALLOCATION, 120, "run failed: used more than 512 MiB of memory"),
        (FLOOD, 5, "run failed: took longer than its time limit of 5 s"),
        (FORKS, 120, "run failed: left processes running"),
    ],
    ids=["segfault", "abort", "exit", "endless", "allocation", "flood", "forks"],
)
def test_a_hostile_candidate_fails_and_its_neighbours_do_not(
    builder: WarmBuilder,
    runner: WarmRunner,
    context: Any,
    capfd: pytest.CaptureFixture[str],
    body: list[str],
    limit_s: float,
    told: str,
) -> None:
    runner.timeout_s = limit_s
    plain = load_tvm().s_tir.Schedule(context.mod)
    worker = runner.pool.submit(jobs.process_id).result(timeout=120)
    before, bad, after = measure([plain, hostile(body), plain], context, builder, runner)[0]
    assert bad.run_failed
    assert reason(bad) == told
    assert_right(before)
    assert_right(after)
    assert runner.pool.submit(jobs.process_id).result(timeout=120) != worker
    assert "noise" not in "".join(capfd.readouterr())


def test_a_candidate_that_dooms_its_process_is_not_paid_for_by_the_next(
    builder: WarmBuilder, runner: WarmRunner, context: Any
) -> None:
    # long enough to be at work when the first one's process ends
    runner.plan, runner.timeout_s = RunPlan(repeats=3, repeat_ms=150), 120
    plain = load_tvm().s_tir.Schedule(context.mod)
    _, *others = measure([hostile(TIME_BOMB), plain, plain], context, builder, runner)[0]
    for one in others:
        assert_right(one)


class _SometimesHostileBuilder:
    """The real builder, whose workers are given another job for some of the modules."""

    def __init__(self, builder: WarmBuilder, job: Any, args: tuple[Any, ...], bad: Any) -> None:
        self.builder, self.job, self.args, self.bad = builder, job, args, bad
        self.finish = builder.finish

    def start(self, mod: Any, target: Any, timeout_s: float | None = None) -> Future[Any]:
        if mod.same_as(self.bad.mod):
            limit_s = 3 if self.job is jobs.sleep else 120
            return self.builder.pool.submit(self.job, *self.args, timeout_s=limit_s)
        return self.builder.start(mod, target, timeout_s)


@pytest.mark.parametrize(
    ("job", "args", "told"),
    [
        (jobs.segfault, (), "build failed: its process was killed by SIGSEGV"),
        (jobs.sleep, (600,), "build failed: took longer than its time limit of 3 s"),
        (jobs.allocate_without_end, (), "build failed: used more than 512 MiB of memory"),
        (jobs.leave, ("os._exit",), "build failed: its process ended by itself with exit code 0"),
    ],
    ids=["segfault", "hang", "allocation", "exit"],
)
def test_a_hostile_build_fails_and_its_neighbours_do_not(
    builder: WarmBuilder,
    runner: WarmRunner,
    context: Any,
    job: Any,
    args: tuple[Any, ...],
    told: str,
) -> None:
    plain = load_tvm().s_tir.Schedule(context.mod)
    bad = hostile(ENDLESS)
    mixed = _SometimesHostileBuilder(builder, job, args, bad)
    before, failed, after = measure([plain, bad, plain], context, mixed, runner)[0]
    assert failed.build_failed
    assert reason(failed) == told
    assert str(failed.builder_result.error_msg) == told
    assert_right(before)
    assert_right(after)


def test_a_build_that_is_killed_leaves_no_files(
    builder: WarmBuilder, context: Any, cpu: Any
) -> None:
    result, _ = builder.finish(builder.start(context.mod, cpu, timeout_s=1e-6))
    assert str(result.error_msg).startswith("build failed: took longer than its time limit")


class _Says:
    """A runner of another make whose answers are made up."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def run(self, inputs: list[Any]) -> list[Any]:
        return [SimpleNamespace(result=lambda one=one: self.answer(one)) for one in self.answers]

    def answer(self, one: Any) -> Any:
        if isinstance(one, Exception):
            raise one
        return load_tvm().s_tir.meta_schedule.runner.RunnerResult(one, None)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([[math.nan]], "run failed: impossible seconds: nan"),
        ([[1.0, -1.0]], "run failed: impossible seconds: 1, -1"),
        ([[0.0]], "run failed: impossible seconds: 0"),
        ([[math.inf]], "run failed: impossible seconds: inf"),
        ([[]], "run failed: impossible seconds: none"),
        ([[1.0], [1.0]], "run failed: 2 results for 1 candidates"),
        ([], "run failed: 0 results for 1 candidates"),
        ([ConnectionError("the device\nhung up")], "run failed: ConnectionError: hung up"),
    ],
)
def test_what_cannot_be_a_time_is_a_failure_whatever_the_runner(
    builder: WarmBuilder, context: Any, answers: list[Any], told: str
) -> None:
    plain = load_tvm().s_tir.Schedule(context.mod)
    (one,), _, _ = measure([plain], context, builder, _Says(*answers))
    assert one.run_failed
    assert reason(one) == told


def test_a_wrong_number_of_times_is_a_failure(runner: WarmRunner) -> None:
    given: Future[Any] = Future()
    given.set_result([1.0, 1.0])
    assert "2 times measured, 3 asked for" in str(runner.finish(given).error_msg)
