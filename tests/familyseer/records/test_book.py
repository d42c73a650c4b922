"""The record book against MetaSchedule's own database: what is written, read back, ranked, lost."""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from familyseer.records import RecordBook, RecordsError
from familyseer.tvm_env import load_tvm

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"


def stock(folder: Path) -> Any:
    """The folder as MetaSchedule reads it."""
    return load_tvm(intrinsics=True).s_tir.meta_schedule.database.JSONDatabase(
        work_dir=str(folder), allow_missing=False
    )


def seconds(records: Any) -> list[list[float]]:
    return [[float(s) for s in record.run_secs] for record in records]


def as_json(records: Any) -> list[Any]:
    return [record.as_json() for record in records]


@pytest.fixture
def dense(make_dense: Any) -> Any:
    return make_dense()


@pytest.fixture
def written(tmp_path: Path, make_dense: Any, make_record: Callable[..., Any]) -> Path:
    """A folder with three subgraphs and two records of each: 1 ms and 2 ms, 3 and 4, 5 and 6."""
    book = RecordBook(tmp_path)
    for number, rows in enumerate((64, 128, 192)):
        workload = book.commit_workload(make_dense(n=rows).mod)
        for milliseconds in (2 * number + 1, 2 * number + 2):
            book.commit_tuning_record(make_record(workload, [milliseconds * 1e-3], 2**number))
    book.close()
    return tmp_path


def test_metaschedule_reads_what_was_written(
    tmp_path: Path, dense: Any, make_dense: Any, make_record: Callable[..., Any]
) -> None:
    book, other = RecordBook(tmp_path), make_dense(n=128)
    first, second = book.commit_workload(dense.mod), book.commit_workload(other.mod)
    book.commit_tuning_record(make_record(second, [0.25], 8))
    book.commit_tuning_record(make_record(first, [3e-3, 2e-3], 2))
    book.commit_tuning_record(make_record(first, [1e10], 4))
    book.sync()
    theirs = stock(tmp_path)
    assert len(theirs) == len(book) == 3
    for mod, workload in ((dense.mod, first), (other.mod, second)):
        assert theirs.has_workload(mod)
        top = theirs.get_top_k(theirs.commit_workload(mod), 5)
        assert as_json(top) == as_json(book.get_top_k(workload, 5))
    assert seconds(book.get_top_k(first, 5)) == [[3e-3, 2e-3]]


def test_it_reads_what_metaschedule_wrote(
    tmp_path: Path, dense: Any, make_record: Callable[..., Any]
) -> None:
    ms = load_tvm().s_tir.meta_schedule
    theirs = ms.database.JSONDatabase(work_dir=str(tmp_path))
    workload = theirs.commit_workload(dense.mod)
    for time_s in (3e-3, 1e-3, 1e10, 2e-3):
        theirs.commit_tuning_record(make_record(workload, [time_s], 8))
    book = RecordBook(tmp_path)
    mine = book.commit_workload(dense.mod)
    assert seconds(book.get_top_k(mine, 2)) == [[1e-3], [2e-3]]
    assert as_json(book.get_top_k(mine, 9)) == as_json(theirs.get_top_k(workload, 9))
    assert seconds(book.get_all_tuning_records()) == [[1e-3], [2e-3], [3e-3], [1e10]]
    assert book.trials(mine) == len(book) == 4


def test_the_least_mean_comes_first_and_of_equals_the_oldest(
    tmp_path: Path, dense: Any, make_record: Callable[..., Any]
) -> None:
    book = RecordBook(tmp_path)
    workload = book.commit_workload(dense.mod)
    for times, factor in (([4.0, 1.0], 2), ([2.0, 2.0], 4), ([2.0], 8), ([2.5], 16), ([], 32)):
        book.commit_tuning_record(make_record(workload, times, factor))
    book.commit_tuning_record(make_record(workload, None, 1))
    want = [[2.0, 2.0], [2.0], [4.0, 1.0], [2.5]]
    assert seconds(book.get_top_k(workload, 10)) == want
    book.sync()
    again = RecordBook(tmp_path)
    assert seconds(again.get_top_k(again.commit_workload(dense.mod), 10)) == want
    assert seconds(again.get_top_k(again.commit_workload(dense.mod), 0)) == []


def test_a_record_without_instructions_is_not_valid(tmp_path: Path, dense: Any, cpu: Any) -> None:
    ms, tvm = load_tvm().s_tir.meta_schedule, load_tvm()
    book = RecordBook(tmp_path)
    workload = book.commit_workload(dense.mod)
    for postproc in (False, True):
        schedule = tvm.s_tir.Schedule(dense.mod)
        if postproc:
            schedule.enter_postproc()
        book.commit_tuning_record(ms.database.TuningRecord(schedule.trace, workload, [1.0], cpu))
    book.sync()
    for one in (book, RecordBook(tmp_path), stock(tmp_path)):
        assert list(one.get_top_k(one.commit_workload(dense.mod), 5)) == []
        assert len(one) == 2


def test_a_known_subgraph_is_found_without_being_written_again(
    written: Path, make_dense: Any
) -> None:
    before = (written / WORKLOADS).read_bytes()
    book = RecordBook(written)
    assert book.has_workload(make_dense(n=128).mod)
    assert not book.has_workload(make_dense(n=256).mod)
    workload = book.commit_workload(make_dense(n=128).mod)
    assert workload.same_as(book.commit_workload(make_dense(n=128).mod))
    assert seconds(book.get_top_k(workload, 1)) == [[3e-3]]
    book.sync()
    assert (written / WORKLOADS).read_bytes() == before


def test_a_subgraph_written_by_another_tvm_is_known_by_its_structure(
    written: Path, make_dense: Any
) -> None:
    lines = (written / WORKLOADS).read_text().splitlines()
    shash, text = json.loads(lines[0])
    # the text's length comes before it
    module = json.loads(base64.b64decode(text)[8:])
    module["metadata"]["tvm_version"] = "0.99"
    content = json.dumps(module).encode()
    other = base64.b64encode(struct.pack("<q", len(content)) + content).decode()
    (written / WORKLOADS).write_text("\n".join([json.dumps([shash, other]), *lines[1:]]) + "\n")
    book = RecordBook(written)
    workload = book.commit_workload(make_dense().mod)
    assert seconds(book.get_top_k(workload, 1)) == [[1e-3]]
    assert len((written / WORKLOADS).read_text().splitlines()) == 3


def test_nothing_is_on_disk_before_the_round_ends(
    tmp_path: Path, dense: Any, make_record: Callable[..., Any]
) -> None:
    book = RecordBook(tmp_path)
    workload = book.commit_workload(dense.mod)
    book.commit_tuning_record(make_record(workload, [1e-3]))
    assert not (tmp_path / RECORDS).exists()
    assert seconds(book.get_top_k(workload, 1)) == [[1e-3]]
    book.sync()
    assert len(RecordBook(tmp_path)) == 1


def test_records_of_a_killed_process_are_there_up_to_its_last_sync(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from familyseer.records import RecordBook
        from familyseer.target import resolve_target
        from familyseer.tvm_env import load_tvm
        tvm = load_tvm()
        te, ms = tvm.te, tvm.s_tir.meta_schedule
        a = te.placeholder((8,), name="A")
        func = te.create_prim_func([a, te.compute((8,), lambda i: a[i] + 1.0, name="B")])
        mod = tvm.IRModule({"main": func})
        book = RecordBook(Path(sys.argv[1]))
        workload = book.commit_workload(mod)
        schedule = tvm.s_tir.Schedule(mod)
        schedule.get_sblock("B")
        for number in range(5):
            book.commit_tuning_record(
                ms.database.TuningRecord(schedule.trace, workload, [1.0 + number])
            )
            if number == 3:
                book.sync()
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert ran.returncode == -9
    assert len(RecordBook(tmp_path)) == len(stock(tmp_path)) == 4


@pytest.mark.parametrize("kept", [-1, -40, 3])
def test_a_torn_last_line_is_dropped_with_one_warning(
    written: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (written / RECORDS).read_bytes().splitlines(keepends=True)
    (written / RECORDS).write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    with caplog.at_level(logging.WARNING):
        assert len(RecordBook(written)) == 5
    (warning,) = caplog.messages
    assert f"{written / RECORDS}: line 6" in warning
    assert (written / RECORDS).read_bytes() == b"".join(lines[:-1])
    assert len(stock(written)) == 5
    assert not (written / "rejected.jsonl").exists()


def test_a_last_line_of_rubbish_is_dropped_too(written: Path) -> None:
    whole = (written / RECORDS).read_bytes()
    (written / RECORDS).write_bytes(whole + b"\0" * 50 + b"\n")
    assert len(RecordBook(written)) == 6
    assert (written / RECORDS).read_bytes() == whole


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"rubbish", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "not JSON"),
        (b"[0, 1]", "expected an index and"),
        (b'{"a": 1}', "expected [workload index, record]"),
        (b"[true, [[[], []], [1.0], null, null]]", "expected [workload index, record]"),
        (b"[0, [[[], []], [-1.0], null, null]]", "not positive and finite"),
        (b"[0, [[[], []], [1e999], null, null]]", "not positive and finite"),
        (b"[0, [[[], []], [NaN], null, null]]", "the number NaN"),
        (b"[7, [[[], []], [1.0], null, null]]", "of workload 7, which is not there"),
        (b'[0, [[["\\u0041"], []], [1.0], null, null]]', "an escape"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_put_aside_and_the_others_kept(
    written: Path, bad: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (written / RECORDS).read_bytes().splitlines(keepends=True)
    (written / RECORDS).write_bytes(b"".join([*lines[:2], bad + b"\n", *lines[2:]]))
    with caplog.at_level(logging.WARNING):
        assert len(RecordBook(written)) == 6
    (entry,) = map(json.loads, (written / "rejected.jsonl").read_text().splitlines())
    assert (entry["file"], entry["line"]) == (RECORDS, 3)
    assert reason in entry["reason"]
    (warning,) = caplog.messages
    assert reason in warning
    assert "line 3" in warning
    assert (written / RECORDS).read_bytes() == b"".join(lines)


def test_a_lost_workload_takes_its_records_and_no_others(written: Path, make_dense: Any) -> None:
    lines = (written / WORKLOADS).read_bytes().splitlines(keepends=True)
    (written / WORKLOADS).write_bytes(lines[0] + b"rubbish\n" + lines[2])
    book = RecordBook(written)
    assert len(book) == 4
    for one in (book, stock(written)):
        assert not one.has_workload(make_dense(n=128).mod)
        for rows, times in ((64, [[1e-3], [2e-3]]), (192, [[5e-3], [6e-3]])):
            workload = one.commit_workload(make_dense(n=rows).mod)
            assert seconds(one.get_top_k(workload, 5)) == times
    rejected = [json.loads(x) for x in (written / "rejected.jsonl").read_text().splitlines()]
    assert [(x["file"], x["line"]) for x in rejected] == [
        (WORKLOADS, 2),
        (RECORDS, 3),
        (RECORDS, 4),
    ]
    assert rejected[0]["text"] == "rubbish"


@pytest.mark.parametrize("stop_at", range(6))
def test_a_repair_that_is_killed_is_done_again_or_finished(
    written: Path, make_dense: Any, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    lines = (written / WORKLOADS).read_bytes().splitlines(keepends=True)
    (written / WORKLOADS).write_bytes(b"rubbish\n" + lines[1] + lines[2])
    steps = iter(range(100))
    replace = Path.replace

    def killed(self: Path, to: Path) -> Path:
        if next(steps) == stop_at:
            raise KeyboardInterrupt
        return replace(self, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        if stop_at < 4:
            with pytest.raises(KeyboardInterrupt):
                RecordBook(written)
        else:
            RecordBook(written)
    book = RecordBook(written)
    for rows, times in ((128, [[3e-3], [4e-3]]), (192, [[5e-3], [6e-3]])):
        workload = book.commit_workload(make_dense(n=rows).mod)
        assert seconds(book.get_top_k(workload, 5)) == times
    assert len(book) == len(stock(written)) == 4
    assert not list(written.glob("*.repaired"))


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Lets a number of bytes through to the disk, as one that is nearly full does."""
    pwrite = os.pwrite
    left = after

    def nearly_full(handle: int, content: Any, at: int) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = pwrite(handle, content[:left], at)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", nearly_full)


@pytest.mark.parametrize("after", [0, 100, 9000])
def test_a_full_disk_leaves_the_files_as_they_were_and_loses_nothing(
    written: Path,
    make_dense: Any,
    make_record: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    before = [(written / name).read_bytes() for name in (WORKLOADS, RECORDS)]
    book = RecordBook(written)
    workload = book.commit_workload(make_dense(n=256).mod)
    for factor in (2, 4, 8, 16):
        book.commit_tuning_record(make_record(workload, [1e-3 * factor], factor))
    with monkeypatch.context() as patched:
        full_disk(patched, after)
        with pytest.raises(RecordsError, match="No space left on device") as raised:
            book.sync()
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.path in map(str, (written / WORKLOADS, written / RECORDS))
    assert [(written / name).read_bytes() for name in (WORKLOADS, RECORDS)] == before
    assert seconds(book.get_top_k(workload, 1)) == [[2e-3]]
    book.commit_tuning_record(make_record(workload, [1e-3], 1))
    book.sync()
    assert len(RecordBook(written)) == len(stock(written)) == 11
    assert seconds(book.get_top_k(workload, 1)) == [[1e-3]]


def test_what_could_not_be_cut_off_is_cut_by_the_next_sync(
    written: Path, make_dense: Any, make_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RecordBook(written)
    workload = book.commit_workload(make_dense(n=64).mod)
    for factor in (2, 4):
        book.commit_tuning_record(make_record(workload, [1.0], factor))

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        full_disk(patched, 100)
        patched.setattr(os, "truncate", refuse)
        with pytest.raises(RecordsError):
            book.sync()
    book.sync()
    assert len(RecordBook(written)) == len(stock(written)) == 8


def test_a_file_that_was_shortened_by_somebody_else_is_not_written_over(
    written: Path, make_dense: Any, make_record: Callable[..., Any]
) -> None:
    book = RecordBook(written)
    workload = book.commit_workload(make_dense(n=64).mod)
    os.truncate(written / RECORDS, 10)
    book.commit_tuning_record(make_record(workload, [1.0]))
    with pytest.raises(RecordsError, match="shorter than what was written to it"):
        book.sync()


def test_a_trace_that_tvm_cannot_apply_is_passed_over(
    written: Path, make_dense: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (written / RECORDS).read_text()
    bad = json.loads(whole.splitlines()[0])
    bad[1][0][0][0][0] = "NoSuchInstruction"
    bad[1][1] = [1e-6]
    # TVM writes where a decision's index says
    worse = json.loads(whole.splitlines()[0])
    worse[1][0][1][0][0] = 1 << 30
    worse[1][1] = [1e-6]
    (written / RECORDS).write_text(f"{json.dumps(bad)}\n{json.dumps(worse)}\n{whole}")
    book = RecordBook(written)
    with caplog.at_level(logging.WARNING):
        found = book.get_top_k(book.commit_workload(make_dense().mod), 1)
    assert seconds(found) == [[1e-3]]
    assert len(caplog.messages) == 2
    assert all("a record is not used" in message for message in caplog.messages)


def test_the_latest_records_come_in_the_order_of_measuring(
    tmp_path: Path, dense: Any, make_record: Callable[..., Any]
) -> None:
    book = RecordBook(tmp_path)
    workload = book.commit_workload(dense.mod)
    for time_s in (1.0, 1e10, 3.0, 2.0):
        book.commit_tuning_record(make_record(workload, [time_s]))
    book.sync()
    again = RecordBook(tmp_path)
    mine = again.commit_workload(dense.mod)
    assert seconds(again.latest(mine, 3)) == [[1e10], [3.0], [2.0]]
    assert again.latest(mine, 0) == []


def test_metaschedule_s_search_takes_it_as_a_database(
    tmp_path: Path, dense: Any, cpu: Any, make_record: Callable[..., Any]
) -> None:
    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    book = RecordBook(tmp_path)
    book.commit_tuning_record(make_record(book.commit_workload(dense.mod), [1e-3]))
    with cpu, book:
        assert len(book) == 1
        assert book.query_tuning_record(dense.mod, cpu, "main").run_secs[0].value == 1e-3
        assert ms.database.Database.current().same_as(book)
    memory = ms.database.MemoryDatabase()
    book.dump_pruned(memory)
    assert len(memory) == 1
