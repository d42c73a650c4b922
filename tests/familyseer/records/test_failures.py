"""The log of failed candidates: what is added, synced, torn, read by others."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from familyseer.records import Failure, FailureLog, RecordsError, read_failures

TRACE = [[["GetSBlock", [], ["root", "main"], ["b0"]]], []]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failures.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    log = FailureLog(path)
    log.add(subgraph="dense", trial=3, phase="build", reason="LLVM ERROR", trace=TRACE)
    log.add(subgraph="dense", trial=5, phase="run", reason="took too long", trace="0123abcd")
    log.add(subgraph="conv2d", trial=6, phase="check", reason="wrong")
    log.sync()
    return path


def test_what_was_added_is_read_back(written: Path) -> None:
    assert read_failures(written) == [
        Failure("dense", 3, "build", "LLVM ERROR", TRACE),
        Failure("dense", 5, "run", "took too long", "0123abcd"),
        Failure("conv2d", 6, "check", "wrong", None),
    ]


def test_a_log_that_was_never_written_is_empty(path: Path) -> None:
    assert read_failures(path) == []


def test_it_is_on_disk_after_a_sync_only_and_goes_on_later(written: Path) -> None:
    log = FailureLog(written)
    log.add(subgraph="x", trial=7, phase="run", reason="crashed")
    assert len(read_failures(written)) == 3
    log.close()
    assert [one.trial for one in read_failures(written)] == [3, 5, 6, 7]


def test_whatever_a_candidate_printed_can_be_noted(path: Path) -> None:
    reason = 'a\n"b"\x00\x1b[31m \ud800 é ' + "x" * 10_000
    log = FailureLog(path)
    log.add(subgraph="dense", trial=0, phase="run", reason=reason)
    log.sync()
    (one,) = read_failures(path)
    assert one.reason.startswith('a\n"b"\x00\x1b[31m ? é xxx')
    assert len(one.reason) < 3000


def test_an_unknown_phase_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="phase is 'sleep': expected build, run, check"):
        FailureLog(path).add(subgraph="dense", trial=0, phase="sleep", reason="")


def test_a_torn_line_is_cut_off_when_the_log_goes_on(
    written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[:-9])
    with caplog.at_level(logging.WARNING):
        assert len(read_failures(written)) == 2
        log = FailureLog(written)
    assert [f"{written}: line 3" in message for message in caplog.messages] == [True, True]
    log.add(subgraph="x", trial=7, phase="run", reason="crashed")
    log.sync()
    assert [one.trial for one in read_failures(written)] == [3, 5, 7]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("rubbish", "not JSON"),
        ("[]", "expected an object"),
        ('{"subgraph": "a"}', "expected subgraph, trial, phase and reason"),
        ('{"subgraph": "a", "trial": true, "phase": "run", "reason": ""}', "expected subgraph"),
        ('{"subgraph": "a", "trial": 1, "phase": "fly", "reason": ""}', "phase 'fly' is none of"),
    ],
)
def test_a_bad_line_is_left_out_by_readers_and_put_aside_by_the_log(
    written: Path, bad: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = written.read_text()
    written.write_text(f"{bad}\n{whole}")
    with caplog.at_level(logging.WARNING):
        assert len(read_failures(written)) == 3
    (warning,) = caplog.messages
    assert "line 1 is left out" in warning
    assert reason in warning
    FailureLog(written)
    assert written.read_text() == whole
    (entry,) = map(json.loads, written.with_name("rejected.jsonl").read_text().splitlines())
    assert (entry["file"], entry["line"], entry["text"]) == (written.name, 1, bad)


def test_a_full_disk_is_told_and_nothing_is_lost(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, before = FailureLog(written), written.read_bytes()
    log.add(subgraph="x", trial=7, phase="run", reason="crashed")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(RecordsError, match="No space left on device"):
            log.sync()
        log.close()
    assert written.read_bytes() == before
    log.sync()
    assert len(read_failures(written)) == 4
