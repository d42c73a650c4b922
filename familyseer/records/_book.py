"""MetaSchedule's database as a journal that is durable by rounds and opens without TVM's reader."""

from __future__ import annotations

import importlib
import json
import logging
import math
from array import array
from bisect import insort
from pathlib import Path
from typing import Any

from familyseer.records._files import (
    FAILED_RUN_S,
    FAILED_S,
    RECORDS,
    WORKLOADS,
    WorkloadLine,
    module_digest,
    open_files,
    parse_workload,
    record_of,
)
from familyseer.records._journal import Journal, RecordsError, sync
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule
_record_as_json = tvm.get_global_func("s_tir.meta_schedule.TuningRecordAsJSON")
_ffi = importlib.import_module("tvm_ffi")
# named for the type checker, which cannot follow TVM's modules
_PyDatabase: Any = ms.database.PyDatabase

log = logging.getLogger(__name__)

# of each workload, records held as TVM's objects: as many as are asked for when a search resumes
_HELD = 32


@tvm.ir.utils.derived_object
class RecordBook(_PyDatabase):
    """A run's records, in the two files that MetaSchedule's own database keeps.

    Use it wherever MetaSchedule takes a database. What is committed is in memory until `sync`.
    Torn and bad lines of an earlier run are dealt with when it opens, see
    `familyseer.records._files.open_files`.

    Parameters
    ----------
    folder
        Where the two files are, or will be; made if missing.

    Raises
    ------
    RecordsError
        The folder or a file cannot be read or put in order.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError.of(error, folder) from None
        contents = open_files(folder)
        self._workload_file = Journal(folder / WORKLOADS)
        self._record_file = Journal(folder / RECORDS)
        self._known: list[WorkloadLine] = []
        self._objects: list[Any] = []
        self._positions: list[array[int]] = []
        self._ranked: list[list[tuple[float, int]]] = []
        self._by_digest: dict[bytes, int] = {}
        self._by_hash: dict[str, list[int]] = {}
        # by the object, whose hash is that of TVM's handle: its Python wrapper is new every time
        self._by_object: dict[Any, int] = {}
        self._held: dict[int, Any] = {}
        self._starts, self._ends, self._means = contents.starts, contents.ends, contents.times
        for workload in contents.workloads:
            if workload is not None:
                self._add_workload(workload)
        # a workload may be there twice, when a run of another version began where hashes differ
        first = [self._by_digest[one.digest] for one in self._known]
        for position, owner in enumerate(contents.owners):
            self._positions[first[owner]].append(position)
            if math.isfinite(self._means[position]):
                self._ranked[first[owner]].append((self._means[position], position))
        for ranked in self._ranked:
            ranked.sort()

    def has_workload(self, mod: Any) -> bool:
        """Whether a subgraph equal to this TIR was committed."""
        return self._find(mod) is not None

    def commit_workload(self, mod: Any) -> Any:
        """The workload of a subgraph's TIR, new if it was not there."""
        index = self._find(mod)
        if index is None:
            workload = ms.database.Workload(mod)
            shash, text = (str(part) for part in workload.as_json())
            start = self._workload_file.append(_dumps([shash, text]))
            index = self._add_workload(
                WorkloadLine(start, self._workload_file.end, shash, module_digest(text))
            )
            self._set_object(index, workload)
        elif self._objects[index] is None:
            self._set_object(index, ms.database.Workload(mod))
        return self._objects[index]

    def commit_tuning_record(self, record: Any) -> None:
        """Adds a record; it is durable after the next `sync`."""
        index = self._index(record.workload, commit=True)
        assert index is not None
        parts = plain(_record_as_json(record))
        seconds = [float(s) for s in parts[1] or []]
        # TVM's reader knows no infinity
        seconds = [s if math.isfinite(s) else FAILED_RUN_S for s in seconds]
        parts[1] = seconds
        mean = sum(seconds) / len(seconds) if seconds else math.inf
        instructions = parts[0][0]
        empty = not instructions or instructions[0][0] == "EnterPostproc"
        position = len(self._starts)
        self._starts.append(self._record_file.append(_dumps([index, parts])))
        self._ends.append(self._record_file.end)
        self._means.append(math.inf if empty or mean >= FAILED_S else mean)
        self._positions[index].append(position)
        if math.isfinite(self._means[-1]):
            ranked = self._ranked[index]
            insort(ranked, (mean, position))
            if ranked[:_HELD][-1] >= (mean, position):
                self._held[position] = record
            for _, slower in ranked[_HELD : _HELD + 1]:
                self._held.pop(slower, None)

    def get_top_k(self, workload: Any, top_k: int) -> list[Any]:
        """The valid records of a workload, at most `top_k`, those of the least mean seconds first.

        A record that TVM cannot read is left out with a warning.
        """
        index = self._index(workload)
        found: list[Any] = []
        if index is None:
            return found
        for _, position in self._ranked[index]:
            if len(found) >= top_k:
                break
            record = self._record(index, position)
            if record is not None:
                found.append(record)
        return found

    def get_all_tuning_records(self) -> list[Any]:
        """Every record, failures included, those of the least mean seconds first.

        Each is read anew: for a large database it takes long.
        """
        of = {p: index for index, owned in enumerate(self._positions) for p in owned}
        order = sorted(of, key=lambda position: (self._means[position], position))
        records = [self._record(of[position], position) for position in order]
        return [record for record in records if record is not None]

    def __len__(self) -> int:
        """Number of records, failures included."""
        return len(self._starts)

    def trials(self, workload: Any) -> int:
        """Records of a workload, failures included."""
        index = self._index(workload)
        return 0 if index is None else len(self._positions[index])

    def latest(self, workload: Any, count: int) -> list[Any]:
        """The last `count` records of a workload, failures included, oldest first."""
        index = self._index(workload)
        if index is None or count < 1:
            return []
        records = [self._record(index, position) for position in self._positions[index][-count:]]
        return [record for record in records if record is not None]

    def sync(self) -> None:
        """Makes durable what was committed; files that are missing are made.

        Raises
        ------
        RecordsError
            A file could not be written; both are as they were, what was committed stays in memory
            and is written by the next sync.
        """
        # workloads first: no record on disk may name one that is not
        sync([self._workload_file, self._record_file])

    def close(self) -> None:
        """Tries a last `sync`; a warning says so where it fails.

        It does not raise, for it ends runs that may be ending because nothing can be written.
        """
        try:
            self.sync()
        except RecordsError as error:
            log.warning("what was measured last is not kept: %s", error)

    def _add_workload(self, workload: WorkloadLine) -> int:
        index = len(self._known)
        self._known.append(workload)
        self._objects.append(None)
        self._positions.append(array("i"))
        self._ranked.append([])
        if workload.digest not in self._by_digest:
            self._by_digest[workload.digest] = index
            self._by_hash.setdefault(workload.hash, []).append(index)
        return index

    def _set_object(self, index: int, workload: Any) -> None:
        self._objects[index] = workload
        self._by_object[workload] = index

    def _find(self, mod: Any) -> int | None:
        alike = self._by_hash.get(str(_ffi.structural_hash(mod) & (2**64 - 1)), [])
        for index in alike:
            known = self._objects[index]
            if known is not None and _ffi.structural_equal(known.mod, mod):
                return index
        # the text of equal modules is equal where one TVM wrote both; it spares reading theirs
        text = str(ms.database.Workload(mod).as_json()[1]) if self._known else ""
        written = self._by_digest.get(module_digest(text))
        if written is not None:
            return written
        for index in alike:
            if _ffi.structural_equal(self._object(index).mod, mod):
                return index
        return None

    def _index(self, workload: Any, *, commit: bool = False) -> int | None:
        index = self._by_object.get(workload)
        if index is None:
            if commit:
                return self._by_object[self.commit_workload(workload.mod)]
            index = self._find(workload.mod)
        return index

    def _object(self, index: int) -> Any:
        """A workload that no caller has given yet, read from its file."""
        if self._objects[index] is None:
            known = self._known[index]
            shash, text = parse_workload(self._workload_file.read(known.start, known.end))
            self._set_object(index, ms.database.Workload.from_json([shash, text]))
        return self._objects[index]

    def _record(self, index: int, position: int) -> Any:
        if position in self._held:
            return self._held[position]
        start, end = self._starts[position], self._ends[position]
        try:
            parts = record_of(self._record_file.read(start, end))
            return ms.database.TuningRecord.from_json(parts, self._object(index))
        except RecordsError:
            raise
        except Exception as error:  # whatever TVM throws at a trace that does not fit
            reason = (str(error).strip().splitlines() or [""])[-1]
            log.warning(
                "%s: a record is not used: %s: %s",
                self._record_file.path,
                type(error).__name__,
                reason,
            )
            return None


def plain(value: Any) -> Any:
    """TVM's containers as JSON's, as MetaSchedule's own writer has them (``JSONDumps``)."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
        return bool(value.value) if str(value.ty.dtype) == "bool" else value.value
    if isinstance(value, tvm.tirx.IndexMap):
        return tvm.ir.save_json(value)
    if hasattr(value, "items"):
        # in one order, as that writer has them
        return {str(key): plain(value[key]) for key in sorted(value.keys())}
    return [plain(part) for part in value]


def _dumps(value: Any) -> bytes:
    # TVM's reader knows no \u escapes
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
