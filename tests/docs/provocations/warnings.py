"""What a run says that goes on all the same."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner

from costmodels import FamilyCostModel
from familyseer.cli._ending import print_warnings
from familyseer.cli.main import main
from familyseer.export._manifest import check_manifest
from familyseer.fleet._dispatch import Dispatcher
from familyseer.fleet._jobs import Device
from familyseer.fleet._leases import Leases
from familyseer.fleet._policy import Policy
from familyseer.measure import WorkerPool
from familyseer.measure._cuda_limits import Kernel, refusal
from familyseer.measure._failures import (
    MemoryLimitError,
    StrayProcessError,
    WorkerStartError,
    describe_failure,
)
from familyseer.measure._gpu_runner import _STRIKES, GpuRunner
from familyseer.measure._gpu_timing import GpuLostError
from familyseer.records import RecordBook, read_failures
from familyseer.report._ending import report_run
from familyseer.run._folder import RunFolder, hold
from familyseer.run._restore import restore
from tests.docs.provocations import Place, provokes
from tests.docs.provocations.devices import H200
from tests.docs.provocations.runs import MINE
from tests.docs.provocations.use import finished


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def logged() -> Iterator[list[str]]:
    """The warnings that are logged inside."""
    kept, logger = _Kept(), logging.getLogger("familyseer")
    logger.addHandler(kept)
    try:
        yield kept.messages
    finally:
        logger.removeHandler(kept)


def warned(summary: dict[str, Any]) -> Iterator[str]:
    stream = io.StringIO()
    print_warnings(summary, stream)
    yield from stream.getvalue().splitlines()


@provokes("subgraphs-fell-back")
def _fell_back(_place: Place) -> Iterator[str]:
    yield from warned({"fell_back": {**dict.fromkeys("abcde", "no time"), "f": "wrong results"}})


@provokes("the-library-was-not-compared")
def _not_compared(_place: Place) -> Iterator[str]:
    yield from warned({"not_compared": "there was no time left to run it"})


@provokes("candidates-failed")
def _candidates(_place: Place) -> Iterator[str]:
    calls: tuple[tuple[Any, ...], ...] = ((math.sqrt, -1.0), (os.abort,), (os._exit, 3))
    with WorkerPool(1) as pool:
        for function, *args in calls:
            error = pool.submit(function, *args, timeout_s=60.0).exception()
            assert error is not None
            yield describe_failure("build", error)
        late = pool.submit(time.sleep, 60.0, timeout_s=0.1).exception()
        assert late is not None
        yield describe_failure("run", late)
    # what takes a machine's memory or processes to make
    for rare in (MemoryLimitError(2048), StrayProcessError(), WorkerStartError()):
        yield describe_failure("run", rare)


@provokes("candidates-failed")
def _kernels(_place: Place) -> Iterator[str]:
    kernel = Kernel("conv", (1, 1, 1), (128, 1, 1), 64, 0, 0, 0, 0)
    for changes in ({"spill_bytes": 8}, {"stack_bytes": 4096}, {"block": (4096, 1, 1)}):
        refused = refusal((replace(kernel, **changes),), "sm_90")
        assert refused is not None
        yield refused


@provokes("a-schedule-is-never-used")
def _quarantined(_place: Place) -> Iterator[str]:
    wrong = {"subgraph": "conv", "reason": "off by 3"}
    yield from warned({"quarantined": [wrong, {**wrong, "file": "quarantine/conv-1.json"}]})


@provokes("records-were-damaged")
def _damaged(place: Place) -> Iterator[str]:
    folder = place.folder / "tuning"
    run = RunFolder(place.folder, MINE, resume=False)
    RecordBook(folder).sync()
    (folder / "database_tuning_record.json").write_bytes(b'rubbish\n[0, [[[["torn')
    with logged() as said:
        RecordBook(folder)
        yield from said
    failures = folder / "failures.jsonl"
    failures.write_text("rubbish\n")
    with logged() as said:
        read_failures(failures)
        yield from said
    (folder / "checked.json").write_text("[1]")
    with logged() as said:
        run.read_checked()
        yield from said
    (place.folder / "costmodels").mkdir()
    with logged() as said:
        restore([], None, FamilyCostModel(), place.folder / "costmodels")
        yield from said


@provokes("the-library-is-used-unchecked")
def _unchecked(place: Place) -> Iterator[str]:
    with logged() as said:
        check_manifest(finished(place.folder))
        yield from said


@provokes("no-report-was-written")
def _no_report(place: Place) -> Iterator[str]:
    out = finished(place.folder)
    (out / "report.html").mkdir()
    with logged() as said:
        report_run(out, "", 60.0)
        yield from said
    (out / "families.json").write_text("rubbish")
    result = CliRunner().invoke(main, ["report", str(out), "-o", str(place.folder / "r.html")])
    assert result.exit_code == 0
    yield from result.stderr.splitlines()


@provokes("the-folder-cannot-be-locked")
def _no_locks(place: Place) -> Iterator[str]:
    def flock(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    place.change.setattr(fcntl, "flock", flock)
    with logged() as said, hold(place.folder):
        yield from said


@provokes("a-device-or-a-gpu-is-given-up")
def _lost_gpu(_place: Place) -> Iterator[str]:
    runner = GpuRunner([H200])
    for _ in range(_STRIKES):
        error = GpuLostError("the GPU cannot be used: out of memory")
        runner._strike(runner._places[0], error)
    runner.close()
    yield from runner.warnings()


@provokes("a-device-or-a-gpu-is-given-up")
def _lost_device(place: Place) -> Iterator[str]:
    policy = Policy()
    leases = Leases(policy, 0.1, lambda _then: None)
    place.change.setattr(leases, "end", lambda _lease, in_order: None)
    lease: Any = SimpleNamespace(device=Device("127.0.0.1:9090"))
    for number in range(policy.strikes):
        leases.lose(lease, "the session ended", number)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher.policy, dispatcher._leases = policy, leases
    dispatcher._where, dispatcher._alone_since = "127.0.0.1:9190", 0.0
    dispatcher._on_gone = lambda _error: None
    job: Any = SimpleNamespace(future=Future(), begin=lambda: True)
    dispatcher._waiting = [job]
    dispatcher._look_for_the_end(policy.gone_s + 1.0)
    yield from leases.warnings
