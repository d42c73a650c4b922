"""All that a report shows of a run, read from OUT; what cannot be read is named, not raised."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.families._document import validate_families
from familyseer.records import Failure, RecordsError, read_failures
from familyseer.report import _facts as facts
from familyseer.report._machine import Machine, read_machine
from familyseer.report._rounds import (
    AccuracyRow,
    RoundRow,
    read_accuracy,
    read_rounds,
)
from familyseer.report._schedules import Schedule, read_schedules
from familyseer.safe_json import load_json

_SIZE_LIMIT = 16 << 20
_LARGEST_FAILURES = 256 << 20


@dataclass(frozen=True)
class Rival:
    """What another tuner found in the same time, as ``familyseer compare`` keeps it.

    Attributes
    ----------
    tuner
        Its name.
    tuned_us
        Its library, measured end to end in turns with this run's; None if it was not.
    rounds
        Its history.
    """

    tuner: str
    tuned_us: float | None
    rounds: list[RoundRow]


@dataclass
class RunData:
    """What OUT holds.

    Attributes
    ----------
    name
        OUT's own name, without where it is.
    summary, state
        ``summary.json`` and ``tuning/run.json``, empty if they are missing.
    method, families
        How families were formed, and ``families.json``'s, empty if it is missing.
    schedules
        By subgraph key.
    compared
        This run's own entry in the comparison that it is part of, empty if it is of none.
    missing
        What is not there or damaged, a line each.
    """

    name: str
    summary: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    families: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[RoundRow] = field(default_factory=list)
    accuracy: list[AccuracyRow] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    machine: Machine | None = None
    compared: dict[str, Any] = field(default_factory=dict)
    rivals: list[Rival] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_run(out: Path) -> RunData:
    """Reads a run's folder, finished, killed on the way or damaged.

    Raises
    ------
    UserError
        It is no folder, or holds nothing of a tuning run.
    """
    if not out.is_dir():
        raise UserError(f"{out}: no such folder, expected one that a tuning run wrote")
    known = ("summary.json", "history.csv", "families.json", "tuning/run.json")
    if not any((out / name).is_file() for name in known):
        raise UserError(f"{out}: no tuning run here (expected {', '.join(known[:-1])})")
    data = RunData(facts.shown(out.resolve().name, facts.SHORT))
    tuning = out / "tuning"
    data.summary = _object(data, out / "summary.json", "the summary of a tuning run")
    data.state = _object(data, tuning / "run.json", "the state of a tuning run")
    _read_families(data, out / "families.json")
    data.rounds = _told(data, read_rounds(out / "history.csv"))
    data.accuracy = _told(data, read_accuracy(tuning / "accuracy.csv"))
    data.schedules = _told(data, read_schedules(tuning))
    data.machine = _told(data, read_machine(tuning))
    data.failures = _read_failures(data, tuning / "failures.jsonl")
    _read_comparison(data, out.resolve())
    data.missing = [facts.shown(line.replace(f"{out}/", "")) for line in data.missing]
    return data


def _told(data: RunData, found: tuple[Any, str]) -> Any:
    value, lost = found
    if lost:
        data.missing.append(lost)
    return value


def _object(data: RunData, path: Path, what: str) -> dict[str, Any]:
    if not path.exists():
        data.missing.append(f"{path}: not there")
        return {}
    try:
        value = load_json(path, what=what, limit=_SIZE_LIMIT)
    except UserError as error:
        data.missing.append(str(error))
        return {}
    if isinstance(value, dict):
        return value
    data.missing.append(f"{path}: not {what}")
    return {}


def _read_families(data: RunData, path: Path) -> None:
    document = _object(data, path, "the families of a tuning run")
    if not document:
        return
    try:
        valid = validate_families(document)
    except ValueError as error:
        data.missing.append(str(error))
        return
    data.method, data.families = facts.shown(valid["method"], facts.SHORT), valid["families"]


def _read_failures(data: RunData, path: Path) -> list[Failure]:
    try:
        if not path.exists():
            return []
        if path.stat().st_size > _LARGEST_FAILURES:
            data.missing.append(f"{path.name}: too large to be read for a report")
            return []
        return read_failures(path)
    except (OSError, RecordsError) as error:
        data.missing.append(f"{path.name}: {error.strerror or error}")
        return []


def _read_comparison(data: RunData, out: Path) -> None:
    """The other runs of the same round, if ``familyseer compare`` made this one."""
    path = out.parent / "compare.json"
    if not path.is_file():
        return
    runs = [
        run
        for run in facts.items(_object(data, path, "a comparison of tuners"), "runs")
        if isinstance(run, dict) and isinstance(run.get("folder"), str)
    ]
    data.compared = next((run for run in runs if _beside(out, run) == out), {})
    for run in runs:
        mine = run is data.compared
        if mine or not data.compared or run.get("round") != data.compared.get("round"):
            continue
        folder = _beside(out, run)
        rounds = _told(data, read_rounds(folder / "history.csv")) if folder else []
        tuner = facts.text(run, "tuner", facts.SHORT)
        data.rivals.append(Rival(tuner, facts.positive(run, "tuned_us"), rounds))


def _beside(out: Path, run: dict[str, Any]) -> Path | None:
    """The folder of a compared run: where it is read now, and nowhere but beside `out`."""
    name = Path(run["folder"]).name
    return None if name in ("", "..") or "\0" in name else out.parent / name
