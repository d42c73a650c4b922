"""MetaSchedule's two files: a workload a line, and a record a line that names its workload's line.

A workload's line is ``[hash, base64 of its module's JSON]``, a record's
``[workload index, [trace, run_secs, target, args_info]]`` (TVM, ``json_database.cc``). What is
needed to find and rank records is read here without TVM: TVM takes a tenth of a second for each,
holds them all in memory, and refuses the whole file for one bad line.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from familyseer.records._journal import Line, read_lines
from familyseer.records._repair import (
    Rejected,
    check_lines,
    cut_tail,
    finish_replacing,
    put_aside,
    replace_files,
)

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
# a workload holds its constants
WORKLOAD_LIMIT = 256 << 20
# a trace of thousands of instructions fits
RECORD_LIMIT = 8 << 20
# a mean from which on a record is one of a failure; MetaSchedule writes 1e10
FAILED_S = 1e9
# what MetaSchedule's own callback records for a candidate that failed
FAILED_RUN_S = 1e10
# what a mean of them cannot overflow from
_LARGEST_S = 1e100
# of a trace, which has five
_DEEPEST = 16


class WorkloadLine(NamedTuple):
    """A workload as its file has it.

    Attributes
    ----------
    start, end
        Where its line lies.
    hash
        MetaSchedule's structural hash, in digits.
    digest
        Of the text of its module.
    """

    start: int
    end: int
    hash: str
    digest: bytes


@dataclass
class Contents:
    """What two files hold.

    Attributes
    ----------
    workloads
        A line each; None where it cannot be read.
    starts, ends, times, owners
        Of each record: where its line lies, the seconds of a run that it is ranked by (infinite
        for a failure), and its workload's position.
    rejected, torn
        Bad lines and the torn one of each file, workloads first.
    """

    workloads: list[WorkloadLine | None] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    owners: array[int] = field(default_factory=lambda: array("i"))
    rejected: tuple[list[Rejected], list[Rejected]] = field(default_factory=lambda: ([], []))
    torn: tuple[Line | None, Line | None] = (None, None)


def module_digest(text: str) -> bytes:
    """What two texts of modules are compared by."""
    return hashlib.sha256(text.encode()).digest()


def mean(seconds: Sequence[float]) -> float:
    """What MetaSchedule ranks records by."""
    return sum(seconds) / len(seconds)


def read_files(folder: Path, judge: Callable[[Sequence[float]], float] = mean) -> Contents:
    """Reads a database without changing anything; missing files are empty ones.

    Parameters
    ----------
    judge
        From the seconds of a record's repeats to those that it is ranked by.

    Raises
    ------
    RecordsError
        A file cannot be read.
    """
    found = Contents()

    def use_workload(line: Line) -> None:
        found.workloads.append(None)
        found.workloads[-1] = _workload(line)

    def use_record(line: Line) -> None:
        owner, seconds = parse_record(line.content)
        if owner >= len(found.workloads) or found.workloads[owner] is None:
            strangers.append(Rejected(line, f"of workload {owner}, which is not there"))
            return
        found.starts.append(line.start)
        found.ends.append(line.end)
        found.times.append(judge(seconds) if seconds else math.inf)
        found.owners.append(owner)

    strangers: list[Rejected] = []
    bad_workloads, torn_workload = check_lines(folder / WORKLOADS, WORKLOAD_LIMIT, use_workload)
    del found.workloads[torn_workload.number - 1 if torn_workload else len(found.workloads) :]
    bad_records, torn_record = check_lines(folder / RECORDS, RECORD_LIMIT, use_record)
    bad_records = sorted([*bad_records, *strangers], key=lambda one: one.line.number)
    found.rejected, found.torn = (bad_workloads, bad_records), (torn_workload, torn_record)
    return found


def open_files(folder: Path) -> Contents:
    """Reads a database that is to be continued, and puts its files in order.

    A torn last line is cut off with a warning. Other bad lines, and records of a workload that
    cannot be read, are moved to ``rejected.jsonl``; the workloads that stay are numbered anew.

    Raises
    ------
    RecordsError
        A file cannot be read or changed.
    """
    paths = [folder / WORKLOADS, folder / RECORDS]
    finish_replacing(paths)
    found = read_files(folder)
    for path, torn in zip(paths, found.torn, strict=True):
        if torn is not None:
            cut_tail(path, torn)
    if any(found.rejected):
        _reject(paths, found)
        found = read_files(folder)
    return found


def _reject(paths: list[Path], found: Contents) -> None:
    for path, rejected in zip(paths, found.rejected, strict=True):
        if rejected:
            put_aside(path, rejected)
    bad = [{one.line.number for one in rejected} for rejected in found.rejected]
    kept = [i for i, workload in enumerate(found.workloads) if workload is not None]
    renumbered = {old: new for new, old in enumerate(kept)}

    def workloads() -> Iterator[bytes]:
        for line in read_lines(paths[0], WORKLOAD_LIMIT):
            if line.number not in bad[0]:
                yield line.content

    def records() -> Iterator[bytes]:
        owners = iter(found.owners)
        for line in read_lines(paths[1], RECORD_LIMIT):
            if line.number not in bad[1]:
                rest = line.content.partition(b",")[2]
                yield b"[%d,%s" % (renumbered[next(owners)], rest)

    replace_files([(paths[0], workloads()), (paths[1], records())])


def _workload(line: Line) -> WorkloadLine:
    shash, text = parse_workload(line.content)
    return WorkloadLine(line.start, line.end, shash, module_digest(text))


def parse_workload(content: bytes) -> tuple[str, str]:
    """Hash and base64 text of the module in a workload's line.

    Raises
    ------
    ValueError
        It is none.
    """
    value = _json(content)
    if not (isinstance(value, list) and len(value) == 2):
        raise ValueError("no workload: expected [hash, module]")
    shash, text = value
    if not (isinstance(shash, str) and isinstance(text, str)):
        raise ValueError("no workload: expected two texts")
    if not (shash.isascii() and shash.isdigit() and len(shash) <= 20):
        raise ValueError("no workload: its hash is no number")
    try:
        binascii.a2b_base64(text)
    except ValueError:
        raise ValueError("no workload: its module is not base64") from None
    return shash, text


def parse_record(content: bytes) -> tuple[int, list[float]]:
    """Workload index and seconds of the record in a line, none for a failure.

    As MetaSchedule has it, a record without instructions before its postprocessing is one of a
    failure too.

    Raises
    ------
    ValueError
        It is none.
    """
    value = _json(content)
    if not (isinstance(value, list) and len(value) == 2 and type(value[0]) is int):
        raise ValueError("no record: expected [workload index, record]")
    owner, record = value
    if owner < 0 or not (isinstance(record, list) and len(record) == 4):
        raise ValueError("no record: expected an index and [trace, run_secs, target, args_info]")
    trace, seconds = record[0], record[1]
    if not (isinstance(trace, list) and len(trace) == 2 and isinstance(trace[0], list)):
        raise ValueError("no record: expected a trace of instructions and decisions")
    if seconds is None or seconds == []:
        return owner, []
    if not isinstance(seconds, list) or not all(type(s) in (int, float) for s in seconds):
        raise ValueError("no record: expected seconds")
    if not all(0 < s < math.inf for s in seconds):
        raise ValueError("no record: its seconds are not positive and finite")
    if any(s > _LARGEST_S for s in seconds):
        raise ValueError("no record: its seconds are out of range")
    instructions = trace[0]
    empty = not instructions or (
        isinstance(instructions[0], list) and instructions[0][:1] == ["EnterPostproc"]
    )
    return owner, [] if empty or mean(seconds) >= FAILED_S else seconds


def record_of(content: bytes) -> list[Any]:
    """The four parts of a record's line, of a shape that TVM can be given.

    TVM writes a trace's decisions where their index says without looking at it, and reads nested
    arrays by recursion, so a record is looked through before TVM has it.

    Raises
    ------
    ValueError
        Its line is no record.
    """
    parse_record(content)
    trace, seconds, target, args = record = _json(content)[1]
    _check_depth(record, _DEEPEST)
    instructions, decisions = trace
    for one in instructions:
        if not (isinstance(one, list) and len(one) == 4 and isinstance(one[0], str)):
            raise ValueError("no record: expected instructions of four parts")
        if not all(isinstance(part, list) for part in one[1:]):
            raise ValueError(f"no record: expected arrays as parts of {one[0][:40]!r}")
    if not isinstance(decisions, list):
        raise ValueError("no record: expected an array of decisions")
    for one in decisions:
        if not (isinstance(one, list) and len(one) == 2 and type(one[0]) is int):
            raise ValueError("no record: expected decisions of two parts")
        if not 0 <= one[0] < len(instructions):
            raise ValueError(f"no record: a decision of instruction {one[0]}, which it has not")
    if not isinstance(target, (dict, type(None))) or not isinstance(args, (list, type(None))):
        raise ValueError("no record: expected a target and arguments")
    return [trace, seconds, target, args]


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, (list, dict)):
        return
    if left == 0:
        raise ValueError("no record: nested too deeply")
    for part in value.values() if isinstance(value, dict) else value:
        _check_depth(part, left - 1)


def _constant(name: str) -> float:
    raise ValueError(f"the number {name}")


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _json(content: bytes) -> Any:
    if b"\\u" in content:
        raise ValueError("an escape that MetaSchedule cannot read")
    try:
        return _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at {error.pos})") from None
