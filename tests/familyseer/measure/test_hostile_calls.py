"""Calls that take their worker down in every way known cost themselves and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import psutil
import pytest

from familyseer.measure import WorkerPool
from familyseer.measure._failures import (
    CallError,
    MemoryLimitError,
    StrayProcessError,
    TimeLimitError,
    WorkerDiedError,
    describe_failure,
)
from familyseer.measure._workers import default_memory_mib
from tests.familyseer.measure import jobs

PATIENCE_S = 120


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1, memory_mib=768) as made:
        yield made


@pytest.fixture(autouse=True)
def the_next_call_works(pool: WorkerPool) -> Iterator[None]:
    yield
    assert pool.submit(jobs.double, 21).result(timeout=PATIENCE_S) == 42


def failure_of(pool: WorkerPool, *call: Any, **how: Any) -> BaseException:
    found = pool.submit(*call, **how).exception(timeout=PATIENCE_S)
    assert found is not None
    return found


def gone(pid: int) -> bool:
    """Whether a process ends soon; one that nobody has asked about since it ended has ended."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_segfault_is_told_by_its_signal(pool: WorkerPool) -> None:
    failure = failure_of(pool, jobs.segfault)
    assert isinstance(failure, WorkerDiedError)
    assert describe_failure("run", failure) == "run failed: its process was killed by SIGSEGV"


@pytest.mark.parametrize("how", ["os._exit", "exit"])
def test_an_exit_is_no_success(pool: WorkerPool, how: str) -> None:
    failure = failure_of(pool, jobs.leave, how)
    assert isinstance(failure, WorkerDiedError)
    assert str(failure) == "its process ended by itself with exit code 0"


def test_an_exit_of_python_ends_neither_worker_nor_owner(pool: WorkerPool) -> None:
    assert isinstance(failure_of(pool, jobs.leave, "sys.exit"), CallError)


def test_a_call_that_ignores_sigterm_is_ended_by_its_limit(pool: WorkerPool) -> None:
    failure = failure_of(pool, jobs.ignore_sigterm_and_spin, timeout_s=0.3)
    assert isinstance(failure, TimeLimitError)
    assert "time limit of 0.3 s" in describe_failure("run", failure)


def test_an_endless_allocation_ends_at_the_memory_limit(pool: WorkerPool) -> None:
    failure = failure_of(pool, jobs.allocate_without_end)
    assert isinstance(failure, (MemoryLimitError, MemoryError))
    if isinstance(failure, MemoryLimitError):
        assert str(failure) == "used more than 768 MiB of memory"


def test_memory_of_a_compiler_that_a_call_started_counts(pool: WorkerPool) -> None:
    failure = failure_of(pool, jobs.child_allocates_without_end, timeout_s=PATIENCE_S)
    assert isinstance(failure, MemoryLimitError)


def test_a_death_after_damage_by_an_earlier_call_is_not_blamed_on_the_later(
    pool: WorkerPool,
) -> None:
    assert pool.submit(jobs.damage_double).result(timeout=PATIENCE_S) == "damaged"
    assert pool.submit(jobs.double, 4).result(timeout=PATIENCE_S) == 8


def test_a_worker_that_dies_idle_is_replaced(pool: WorkerPool) -> None:
    worker = pool.submit(jobs.process_id).result(timeout=PATIENCE_S)
    assert pool.submit(jobs.crash_when_idle).result(timeout=PATIENCE_S) == "about to crash"
    assert gone(worker)
    assert pool.submit(jobs.process_id).result(timeout=PATIENCE_S) != worker


@pytest.mark.parametrize("job", [jobs.scribble_over_descriptors, jobs.close_descriptors])
def test_garbage_in_the_connection_harms_its_own_call_only(pool: WorkerPool, job: Any) -> None:
    failure = failure_of(pool, job, timeout_s=20)
    assert len(describe_failure("run", failure)) <= 300


@pytest.mark.parametrize("own_session", [False, True])
def test_a_child_left_running_is_killed_and_told(
    pool: WorkerPool, tmp_path: Path, own_session: bool
) -> None:
    report = tmp_path / "child"
    failure = failure_of(pool, _leave_child, str(report), False, own_session)
    assert isinstance(failure, StrayProcessError)
    assert gone(int(report.read_text()))


def test_a_child_of_a_worker_that_crashed_is_killed(pool: WorkerPool, tmp_path: Path) -> None:
    report = tmp_path / "child"
    failure = failure_of(pool, _leave_child, str(report), True, False)
    assert "SIGABRT" in str(failure)
    assert gone(int(report.read_text()))


def _leave_child(report: str, with_crash: bool, own_session: bool) -> str:
    return jobs.leave_child(report, with_crash=with_crash, own_session=own_session)


def test_a_forked_worker_does_not_answer_twice(pool: WorkerPool) -> None:
    answered = pool.submit(jobs.come_back_twice)
    # the child may have ended by the time it is looked for
    failure = answered.exception(timeout=PATIENCE_S)
    assert isinstance(failure, StrayProcessError) or answered.result() == "parent"


def test_a_file_cannot_fill_the_disk(pool: WorkerPool, tmp_path: Path) -> None:
    assert isinstance(failure_of(pool, jobs.write_without_end, str(tmp_path / "flood")), OSError)


def test_exceptions_that_cannot_cross_are_told_by_name(pool: WorkerPool) -> None:
    told = describe_failure("build", failure_of(pool, jobs.raise_stubborn))
    assert told == "build failed: StubbornError: last [31mline"
    assert "pickle" in str(failure_of(pool, jobs.give_unpicklable)).lower()


def test_what_cannot_be_sent_fails_alone(pool: WorkerPool) -> None:
    failure = failure_of(pool, jobs.double, lambda: None)
    assert "pickle" in str(failure).lower()


def test_a_worker_is_replaced_after_an_exception(pool: WorkerPool) -> None:
    worker = pool.submit(jobs.process_id).result(timeout=PATIENCE_S)
    failure_of(pool, jobs.raise_stubborn)
    assert pool.submit(jobs.process_id).result(timeout=PATIENCE_S) != worker


def test_a_cancelled_call_is_ended_while_it_runs(pool: WorkerPool, tmp_path: Path) -> None:
    report = tmp_path / "sleeper"
    sleeping = pool.submit(jobs.report_and_sleep, str(report))
    while not (report.exists() and report.read_text()):
        time.sleep(0.02)
    assert sleeping.cancel()
    assert gone(int(report.read_text()))


def test_workers_leave_no_core_and_have_a_session_of_their_own(pool: WorkerPool) -> None:
    core, session = pool.submit(jobs.limits_of_process).result(timeout=PATIENCE_S)
    assert core == 0
    assert session != os.getsid(0)


def test_a_busy_pool_closes_at_once_and_tells_who_waits(tmp_path: Path) -> None:
    pool = WorkerPool(1)
    report = tmp_path / "sleeper"
    calls = [pool.submit(jobs.report_and_sleep, str(report)), pool.submit(jobs.double, 1)]
    while not (report.exists() and report.read_text()):
        time.sleep(0.02)
    pool.close()
    assert all(call.cancelled() for call in calls)
    assert gone(int(report.read_text()))
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(jobs.double, 1)


def test_memory_is_shared_out_and_too_little_is_refused() -> None:
    assert default_memory_mib(1) >= default_memory_mib(4) >= 1024
    with pytest.raises(ValueError, match="expected at least 256"):
        WorkerPool(1, memory_mib=10)


def test_reasons_are_one_short_printable_line() -> None:
    told = describe_failure("build", ValueError("first\n" + "\x07\u202ex" * 1000))
    assert len(told) == 300
    assert told.isprintable()
    assert describe_failure("run", FutureTimeoutError()) == "run failed: TimeoutError"
