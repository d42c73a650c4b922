"""Real processes that really crash, hang and grow old."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import pytest

from familyseer.measure import WorkerPool
from familyseer.measure._failures import WorkerDiedError
from tests.familyseer.measure import jobs


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as made:
        yield made


def test_a_worker_starts_with_tvm_in_memory_and_without_pytorch(pool: WorkerPool) -> None:
    assert pool.submit(jobs.is_loaded, "tvm.s_tir.tensor_intrin").result()
    assert not pool.submit(jobs.is_loaded, "torch").result()


def test_a_worker_lives_from_call_to_call(pool: WorkerPool) -> None:
    first = pool.submit(jobs.process_id).result()
    assert pool.submit(jobs.process_id).result() == first
    assert first != os.getpid()


def test_a_crash_costs_its_call_only(pool: WorkerPool) -> None:
    crashed = pool.submit(jobs.crash)
    after = pool.submit(jobs.double, 21)
    with pytest.raises(WorkerDiedError):
        crashed.result(timeout=30)
    assert after.result(timeout=30) == 42


def test_a_hang_is_ended_by_its_time_limit(pool: WorkerPool) -> None:
    began = time.monotonic()
    hung = pool.submit(jobs.sleep, 60, timeout_s=0.5)
    with pytest.raises(FutureTimeoutError):
        hung.result(timeout=30)
    assert time.monotonic() - began < 10
    assert pool.submit(jobs.double, 1).result(timeout=30) == 2


def test_a_hang_in_native_code_is_ended_as_soon(pool: WorkerPool) -> None:
    # a compiler that hangs never gets back to Python, where a signal handler could run
    hung = pool.submit(jobs.stay_in_native_code, 60, timeout_s=0.5)
    with pytest.raises(FutureTimeoutError):
        hung.result(timeout=30)
    began = time.monotonic()
    assert pool.submit(jobs.double, 1).result(timeout=30) == 2
    assert time.monotonic() - began < 2


def test_workers_are_replaced_after_their_number_of_calls() -> None:
    with WorkerPool(1, calls_per_worker=2) as pool:
        ids = [pool.submit(jobs.process_id).result(timeout=30) for _ in range(4)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_what_workers_print_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerPool(1) as pool:
        assert pool.submit(jobs.chatter).result(timeout=30) == "done"
    out, err = capfd.readouterr()
    assert "noise" not in out + err


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        WorkerPool(0)


def test_a_script_without_a_main_guard_is_not_run_again_by_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            print("once")
            from familyseer.measure import WorkerPool
            from tests.familyseer.measure import jobs
            with WorkerPool(2, quiet=False) as pool:
                print([pool.submit(jobs.double, i).result() for i in range(4)])
            """
        )
    )
    root = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert ran.stdout.split("\n")[:2] == ["once", "[0, 2, 4, 6]"]


def test_workers_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            from familyseer.measure import WorkerPool
            from tests.familyseer.measure import jobs
            pool = WorkerPool(1)
            pool.submit(jobs.report_and_sleep, sys.argv[1])
            while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    root = str(Path(__file__).parents[3])
    report = tmp_path / "busy"
    subprocess.run(
        [sys.executable, str(script), str(report)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    worker = int(report.read_text())
    for _ in range(100):
        if not _running(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its owner by 10 s")


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
