"""Reading what another run left, which may be damaged, of another version, or meant to do harm.

Files are read with limits, in Python. TVM and XGBoost are given only what a worker process has
given its own TVM and XGBoost before: they are not made for hostile input, and where they crash or
hang it is the worker that does.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodels._candidates import anchor_name
from costmodels.store import load_learner
from familyseer.errors import UserError
from familyseer.export._manifest import read_manifest
from familyseer.measure import WorkerPool
from familyseer.records import RecordsError
from familyseer.records._files import (
    RECORDS,
    WORKLOADS,
    Contents,
    parse_workload,
    read_files,
    record_of,
)
from familyseer.records._repair import Rejected
from familyseer.safe_json import load_json, parse_json
from familyseer.search._sketch import Sketch
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)

EXPECTED = "expected what `familyseer tune` left in its OUT"
# what decides whether one machine's schedules and times mean anything on another
_TARGET_ATTRS = ("mcpu", "arch", "num-cores")
_STATE_LIMIT = 1 << 20
_LONGEST_TARGET = 1 << 16
# of one file; a spoilt file may have as many bad lines as lines
_MOST_WARNINGS = 5
# a trace is read in some hundredths of a second on an idle machine
_LEAST_LIMIT_S, _RECORD_LIMIT_S = 120.0, 1.0


@dataclass(frozen=True)
class Candidate:
    """A candidate of an earlier run; `decided` has its instructions and decisions as text."""

    trace: Any
    sketch: Sketch
    vector: Any
    decided: str


@dataclass(frozen=True)
class EarlierSubgraph:
    """A subgraph that an earlier run measured.

    Attributes
    ----------
    key
        As in `familyseer.subgraphs.Subgraph`.
    anchor
        Name of its anchor operation.
    candidates
        The fastest by median time, fastest first.
    """

    key: str
    anchor: str
    candidates: list[Candidate]


def read_target(folder: Path) -> Any:
    """The target that a run was for.

    Raises
    ------
    UserError
        There is no run's state, it is damaged, or the folder's manifest is of a newer format.
    """
    read_manifest(folder)
    state = folder / "tuning" / "run.json"
    if not state.is_file():
        raise UserError(f"--warm-start {folder}: holds no tuning/run.json; {EXPECTED}")
    value = load_json(state, what="the state of a tuning run", limit=_STATE_LIMIT)
    try:
        text = value["target"]
        if not isinstance(text, str) or len(text) > _LONGEST_TARGET:
            raise TypeError
        if text.lstrip().startswith(("{", "[")):
            # TVM reads nested arrays by recursion
            parse_json(text, "a target", depth=8)
        return load_tvm().target.Target(text)
    except (ValueError, KeyError, TypeError, RuntimeError):
        raise UserError(f"{state}: not the state of a tuning run; {EXPECTED}") from None


def decisive(target: Any) -> tuple[str, ...]:
    """What two targets must share for schedules and times of one to mean something on the other."""
    attrs = target.attrs
    return (str(target.kind.name), *(str(attrs.get(name, "")) for name in _TARGET_ATTRS))


def read_subgraphs(folder: Path, target: Any, most: int) -> list[EarlierSubgraph]:
    """The subgraphs that a run's database has valid candidates of, in the order of the database.

    Lines that cannot be used, and records of another target than the run's, are left out with a
    warning that names file and line.

    Parameters
    ----------
    folder
        OUT of the run.
    target
        That of the run.
    most
        Most candidates a subgraph.

    Raises
    ------
    UserError
        The database cannot be read, or makes TVM crash or hang.
    """
    tuning = folder / "tuning"
    if not all((tuning / name).is_file() for name in (WORKLOADS, RECORDS)):
        raise UserError(
            f"--warm-start {folder}: tuning/ cannot be read; expected MetaSchedule's JSON database"
        )
    try:
        contents = read_files(tuning, statistics.median)
        lines = [
            (_line(tuning / WORKLOADS, w.start, w.end), records)
            for w, records in _fastest(tuning, contents, target, most)
        ]
    except RecordsError as error:
        raise UserError(f"--warm-start {folder}: {error}; {EXPECTED}") from None
    _warn(tuning, contents)
    usable = _in_a_worker(
        folder,
        "its database",
        _LEAST_LIMIT_S + _RECORD_LIMIT_S * sum(len(records) for _, records in lines),
        _usable,
        lines,
    )
    found = []
    for (workload, records), good in zip(lines, usable, strict=True):
        if good:
            found.append(_subgraph(workload, [records[i] for i in good])[0])
    lost = sum(len(records) for _, records in lines) - sum(len(good) for good in usable)
    if lost:
        log.warning("%s: %d fast records that TVM cannot read are left out", tuning / RECORDS, lost)
    return found


def check_learner(folder: Path) -> None:
    """Makes sure that reading a run's cost models does not crash; damage is for the reader to tell.

    Raises
    ------
    UserError
        It makes XGBoost crash or hang.
    """
    models = folder / "costmodels"
    if models.is_dir():
        _in_a_worker(folder, "a cost model of it", _LEAST_LIMIT_S, _try_learner, str(models))


def _fastest(
    tuning: Path, contents: Contents, target: Any, most: int
) -> Iterator[tuple[Any, list[bytes]]]:
    """Each workload with valid records, and the lines of the fastest distinct ones."""
    ranked: dict[int, list[tuple[float, int]]] = {}
    for position, (owner, time_s) in enumerate(zip(contents.owners, contents.times, strict=True)):
        if time_s < float("inf"):
            ranked.setdefault(owner, []).append((time_s, position))
    wanted, strangers = decisive(target), 0
    for owner, found in sorted(ranked.items()):
        lines: dict[str, bytes] = {}
        for _, position in sorted(found):
            if len(lines) >= most:
                break
            line = _line(tuning / RECORDS, contents.starts[position], contents.ends[position])
            try:
                trace, _, config, _ = record_of(line)
            except ValueError as error:
                start = contents.starts[position]
                before = sum(bad.line.start < start for bad in contents.rejected[1])
                number = position + 1 + before
                log.warning("%s: line %d is left out: %s", tuning / RECORDS, number, error)
                continue
            if config is not None and _decisive_of(config) != wanted:
                strangers += 1
                continue
            lines.setdefault(repr(trace), line)
        yield contents.workloads[owner], list(lines.values())
    if strangers:
        log.warning(
            "%s: %d records of another target than the run's are left out",
            tuning / RECORDS,
            strangers,
        )


def _decisive_of(config: dict[str, Any]) -> tuple[str, ...]:
    return (str(config.get("kind", "")), *(str(config.get(name, "")) for name in _TARGET_ATTRS))


def _line(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except OSError as error:
        raise RecordsError.of(error, path) from None


def _warn(tuning: Path, contents: Contents) -> None:
    for name, rejected, torn in zip(
        (WORKLOADS, RECORDS), contents.rejected, contents.torn, strict=True
    ):
        bad = [*rejected, *([Rejected(torn, "not whole")] if torn else [])]
        for line, reason in bad[:_MOST_WARNINGS]:
            log.warning("%s: line %d is left out: %s", tuning / name, line.number, reason)
        if len(bad) > _MOST_WARNINGS:
            log.warning("%s: %d more lines are left out", tuning / name, len(bad) - _MOST_WARNINGS)


def _in_a_worker(folder: Path, what: str, limit_s: float, function: Any, *args: Any) -> Any:
    with WorkerPool(1) as pool:
        try:
            return pool.submit(function, *args, timeout_s=limit_s).result()
        except FutureTimeoutError:
            reason = f"took longer than {limit_s:.0f} s to read"
        except Exception as error:  # however a worker may end
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            reason = f"cannot be read by TVM without harm ({last[:200]})"
    raise UserError(f"--warm-start {folder}: {what} {reason}; {EXPECTED}") from None


def _usable(lines: Sequence[tuple[bytes, list[bytes]]]) -> list[list[int]]:
    """Of each workload, which of its records can be used; runs in a worker."""
    found = []
    for workload, records in lines:
        try:
            found.append(_subgraph(workload, records)[1])
        except Exception:  # whatever TVM throws at a workload that is none
            found.append([])
    return found


def _subgraph(workload: bytes, records: Sequence[bytes]) -> tuple[EarlierSubgraph, list[int]]:
    """A subgraph from lines of a database, and which of its records could be used."""
    database = load_tvm(intrinsics=True).s_tir.meta_schedule.database
    known = database.Workload.from_json(list(parse_workload(workload)))
    candidates, usable = [], []
    for number, record in enumerate(records):
        try:
            trace = database.TuningRecord.from_json(record_of(record), known).trace
            candidates.append(_candidate(trace))
        except Exception as error:  # whatever TVM throws at a trace that does not fit
            log.debug("a record is not used: %s", error)
            continue
        usable.append(number)
    return EarlierSubgraph(subgraph_key(known.mod), anchor_name(known.mod), candidates), usable


def _candidate(trace: Any) -> Candidate:
    sketch = Sketch(trace)
    # sketches may differ in the loop that an instruction is given, which only the whole text tells
    return Candidate(trace, sketch, sketch.read(trace), str(trace.simplified(True)))


def _try_learner(folder: str) -> None:
    """Reads every model, walks all its trees and predicts; runs in a worker."""
    import numpy as np

    from costmodels.features import FEATURE_LENGTH

    try:
        learner = load_learner(folder)
    except ValueError:
        return
    families = list(learner.families.values())
    rows = np.ones((1, FEATURE_LENGTH), dtype=np.float32)
    if learner.resources.booster is not None:
        learner.resources.booster.get_dump()
    wide = learner.resources.widen(rows)
    for booster in [learner.shared.booster, *(family.booster for family in families)]:
        if booster is not None:
            booster.booster.get_dump()
            booster.roots(wide, np.zeros(1))
