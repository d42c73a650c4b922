"""Which schedule of each tuned subgraph goes into a kernel library."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.check._jobs import arguments_of
from familyseer.errors import UserError
from familyseer.families._document import validate_families
from familyseer.records import RecordsError
from familyseer.records._files import (
    RECORDS,
    WORKLOADS,
    Contents,
    parse_workload,
    read_files,
    record_of,
)
from familyseer.safe_json import load_json
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)

# of a subgraph, records that are looked at, as when a run ends
_MOST_RECORDS = 8
_EXPECTED = "expected what `familyseer tune` left in its OUT"
_REWRITE = "meta_schedule.layout_rewrite_preproc"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a subgraph: its TIR name, NumPy's (or TVM's) element type, and its extents.

    The others are as in `familyseer.kernels.Argument`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    output: bool
    fewer: bool = False
    alignment: int = 1


@dataclass(frozen=True)
class Tuned:
    """A subgraph under its best schedule.

    Attributes
    ----------
    key, name, weight
        As in `familyseer.subgraphs.Subgraph`.
    mod
        The scheduled TIR, one function ``main``.
    parameters
        In the order in which ``main`` takes them.
    seconds
        Of one run, as tuning measured it.
    checked
        Whether this schedule was found right while tuning.
    rewritten
        Inputs that the schedule brings into another layout inside the kernel, at every call.
    more
        What the manifest says of the kernel beside that.
    """

    key: str
    name: str
    weight: int
    mod: Any
    parameters: tuple[Parameter, ...]
    seconds: float
    checked: bool
    rewritten: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)


def choose(out: Path) -> list[Tuned]:
    """The tuned subgraphs of a run, that with the most time in the model first.

    Of each, the fastest schedule that was found right; where none was checked, the fastest that was
    not found wrong. Lines of the database that cannot be used are left out with a warning.

    Raises
    ------
    UserError
        The database or the families cannot be read, or no subgraph has a usable record.
    """
    tuning = out / "tuning"
    for name in (WORKLOADS, RECORDS):
        if not (tuning / name).is_file():
            raise UserError(f"{tuning / name}: is not there; {_EXPECTED}")
    try:
        contents = read_files(tuning)
    except RecordsError as error:
        raise UserError(f"{out}: {error}") from None
    lost = [*contents.rejected[0], *contents.rejected[1]]
    if lost:
        log.warning("%s: %d damaged lines are left out", tuning, len(lost))
    known, right, wrong = _members(out), _found_right(out), _found_wrong(out)
    found = []
    for workload, records in _ranked(tuning, contents):
        tuned = _best(workload, records, known, right, wrong)
        if tuned is not None:
            found.append(tuned)
    if not found:
        raise UserError(f"{tuning}: holds no usable record of any subgraph; {_EXPECTED}")
    found.sort(key=lambda tuned: (-tuned.seconds * tuned.weight, tuned.name))
    return found


def _ranked(tuning: Path, contents: Contents) -> Iterator[tuple[bytes, list[tuple[float, bytes]]]]:
    """Each workload's line, and the lines of its fastest records with their seconds."""
    times: dict[int, list[tuple[float, int]]] = {}
    for position, (owner, seconds) in enumerate(zip(contents.owners, contents.times, strict=True)):
        if math.isfinite(seconds):
            times.setdefault(owner, []).append((seconds, position))
    with (tuning / WORKLOADS).open("rb") as workloads, (tuning / RECORDS).open("rb") as records:

        def line(file: Any, start: int, end: int) -> bytes:
            file.seek(start)
            return bytes(file.read(end - start))

        for owner, ranked in sorted(times.items()):
            workload = contents.workloads[owner]
            if workload is None:
                continue
            best = sorted(ranked)[:_MOST_RECORDS]
            yield (
                line(workloads, workload.start, workload.end),
                [(s, line(records, contents.starts[p], contents.ends[p])) for s, p in best],
            )


def _best(
    workload: bytes,
    records: Sequence[tuple[float, bytes]],
    known: Mapping[str, tuple[str, int]],
    right: set[tuple[str, str]],
    wrong: Mapping[str, list[Any]],
) -> Tuned | None:
    tvm = load_tvm(intrinsics=True)
    database = tvm.s_tir.meta_schedule.database
    try:
        subgraph = database.Workload.from_json(list(parse_workload(workload)))
        key = subgraph_key(subgraph.mod)
        parameters = _parameters(subgraph.mod)
    except Exception as error:  # whatever TVM throws at a module that is none
        log.warning("a subgraph of the database cannot be read: %s", one_line(error))
        return None
    # one that families.json does not know is of another model, or of another version of this one
    name, weight = known.get(key, (f"subgraph_{key}", 1))
    usable = []
    for seconds, content in records:
        try:
            parts = record_of(content)
            if parts[0] in wrong.get(key, []):
                continue
            schedule = tvm.s_tir.Schedule(subgraph.mod)
            trace = database.TuningRecord.from_json(parts, subgraph).trace
            trace.apply_to_schedule(schedule, remove_postproc=False)
        except Exception as error:  # whatever TVM throws at a trace that does not fit
            log.warning("%s: a record is left out: %s", name, one_line(error))
            continue
        checked = (key, subgraph_key(schedule.mod)) in right
        rewritten = _rewritten(schedule.mod, parameters)
        usable.append(
            Tuned(key, name, weight, schedule.mod, parameters, seconds, checked, rewritten)
        )
        if checked:
            return usable[-1]
    if not usable:
        log.warning("%s: has no usable record and is left out", name)
    return usable[0] if usable else None


def _parameters(mod: Any) -> tuple[Parameter, ...]:
    """The parameters of a subgraph's ``main``, whose extents must be known."""
    return tuple(
        Parameter(str(parameter.name), argument.dtype, argument.shape, argument.output)
        for parameter, argument in zip(mod["main"].params, arguments_of(mod), strict=True)
    )


def _rewritten(mod: Any, parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """Names of the parameters that MetaSchedule's RewriteLayout has a block of its own for."""
    import tvm_ffi

    found: list[str] = []

    def on_block(block: Any) -> None:
        if _REWRITE in block.annotations:
            found.extend(str(region.source.name) for region in block.reads)

    tvm_ffi.structural_walk(mod["main"].body, [(load_tvm().s_tir.SBlock, on_block)])
    return tuple(one.name for one in parameters if one.name in found)


def _members(out: Path) -> dict[str, tuple[str, int]]:
    """Name and weight of each subgraph by its key."""
    path = out / "families.json"
    document = load_json(path, what="the families of a tuning run")
    try:
        families = validate_families(document)["families"]
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_EXPECTED}") from None
    return {
        one["key"]: (one["name"], one["weight"])
        for family in families
        for one in family["subgraphs"]
    }


def _found_right(out: Path) -> set[tuple[str, str]]:
    """Keys of subgraphs and of their schedules that the run found right."""
    path = out / "tuning" / "checked.json"
    if not path.exists():
        return set()
    pairs = load_json(path, what="the checked schedules of a tuning run")
    try:
        return {(str(subgraph), str(schedule)) for subgraph, schedule in pairs}
    except (TypeError, ValueError):
        raise UserError(f"{path}: expected pairs of hashes; {_EXPECTED}") from None


def _found_wrong(out: Path) -> dict[str, list[Any]]:
    """Traces of the schedules in quarantine, by their subgraph's key."""
    found: dict[str, list[Any]] = {}
    for path in sorted((out / "quarantine").glob("*.json")):
        content = load_json(path, what="a reproducer of a wrong schedule")
        if not isinstance(content, dict) or not isinstance(content.get("key"), str):
            raise UserError(f"{path}: names no subgraph; {_EXPECTED}")
        found.setdefault(content["key"], []).append(content.get("trace"))
    return found


def one_line(error: Exception) -> str:
    """A line of an error of TVM's that says what went wrong."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__
