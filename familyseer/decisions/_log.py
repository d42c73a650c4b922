"""tuning/decisions.jsonl: a line when tuning begins, one a round, one at its end.

A round's line holds what its records do not: which subgraph, which of the planned candidates were
measured, how each failed, how long building and running took, and every answer of the clock since
the line before. It is appended after the round's records are synced, so a line always has them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from familyseer.measure._cuda_limits import Resources

FILE = "decisions.jsonl"
# a line has some dozens of answers a round; one far above that was not written here
LONGEST_LINE = 1 << 24
_HEADER = b'{"run":'


@dataclass(frozen=True)
class Told:
    """One call of `familyseer.measure._measure.measure`, without the times that are in its records.

    Attributes
    ----------
    subgraph
        Its task name.
    planned
        Candidates that were to be measured.
    measured
        Positions among them of those that were, in the order of their records.
    failed
        For each measured one ``"build"``, ``"run"`` or None.
    build_s
        Seconds that each one's build took.
    wall_s
        Seconds of the round's building and of its running.
    resources
        What each measured one takes of a GPU, None if unknown; empty where all are.
    """

    subgraph: str
    planned: int
    measured: tuple[int, ...]
    failed: tuple[str | None, ...]
    build_s: tuple[float, ...]
    wall_s: tuple[float, float]
    resources: tuple[Resources | None, ...] = ()


class DecisionLog:
    """Appends to the log of one folder.

    Parameters
    ----------
    folder
        Where ``decisions.jsonl`` is or will be; a last line torn by a crash is cut off.

    Raises
    ------
    OSError
        The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file = self.path.open("ab+")
        self._length = _whole_length(self._file)
        self._file.truncate(self._length)
        self._file.seek(0)
        self._runs = sum(line.startswith(_HEADER) for line in self._file)

    def begin(self, header: dict[str, Any]) -> int:
        """Begins a run, first or resumed, and gives its number, from 1."""
        self._append({"run": header})
        self._runs += 1
        return self._runs

    def round(self, told: Sequence[Told], asked: str, answers: Sequence[float]) -> None:
        """Ends a round."""
        self._append({"rounds": [_entry(one) for one in told], **_clock(asked, answers)})

    def end(self, stopped_by: str, asked: str, answers: Sequence[float]) -> None:
        """Ends the run's tuning."""
        self._append({"end": stopped_by, **_clock(asked, answers)})

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            error.filename = str(self.path)
            # half a line would hide every later one
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._length)
            raise
        self._length += len(line)


def _whole_length(file: Any) -> int:
    """Bytes up to the end of the last whole line."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        begin = max(0, position - 65536)
        file.seek(begin)
        found = file.read(position - begin).rfind(b"\n")
        if found >= 0:
            return int(begin + found + 1)
        position = begin
    return 0


def _entry(told: Told) -> dict[str, Any]:
    entry = asdict(told)
    if not told.resources:
        del entry["resources"]
    return entry


def _clock(asked: str, answers: Sequence[float]) -> dict[str, Any]:
    # JSON has no infinity, which is what is left of a run without a budget
    return {"asked": asked, "answers": [a if math.isfinite(a) else None for a in answers]}


@dataclass(frozen=True)
class Line:
    """One line of the log that is no header."""

    rounds: tuple[Told, ...]
    asked: str
    answers: tuple[float, ...]
    end: str | None


@dataclass(frozen=True)
class LoggedRun:
    """What one run, first or resumed, wrote down."""

    header: dict[str, Any]
    lines: tuple[Line, ...]

    @property
    def stopped_by(self) -> str | None:
        """What ended its tuning; None where it was killed."""
        return self.lines[-1].end if self.lines else None


def read_log(folder: Path) -> list[LoggedRun]:
    """The runs that a folder's log tells of, oldest first.

    A last line torn by a crash is left out.

    Raises
    ------
    ValueError
        A line is not what a run writes; the message names file and line.
    OSError
        There is no log, or it cannot be read.
    """
    path = folder / FILE
    runs: list[tuple[dict[str, Any], list[Line]]] = []
    for number, raw in enumerate(_whole_lines(path), 1):
        try:
            value = json.loads(raw)
            if "run" in value:
                runs.append((dict(value["run"]), []))
            else:
                runs[-1][1].append(_line(value))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise ValueError(f"{path}: line {number} is none of a tuning run's decisions") from None
    return [LoggedRun(header, tuple(lines)) for header, lines in runs]


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while raw := file.readline(LONGEST_LINE):
            if not raw.endswith(b"\n"):
                if file.read(1):
                    raise ValueError(f"{path}: a line of more than {LONGEST_LINE} bytes")
                return
            yield raw


def _line(value: dict[str, Any]) -> Line:
    answers = tuple(math.inf if a is None else float(a) for a in value["answers"])
    asked, end = value["asked"], value.get("end")
    if not isinstance(asked, str) or len(asked) != len(answers):
        raise ValueError
    return Line(tuple(map(_told, value.get("rounds", ()))), asked, answers, end and str(end))


def _told(value: dict[str, Any]) -> Told:
    told = Told(
        subgraph=str(value["subgraph"]),
        planned=int(value["planned"]),
        measured=tuple(int(i) for i in value["measured"]),
        failed=tuple(None if f is None else str(f) for f in value["failed"]),
        build_s=tuple(float(s) for s in value["build_s"]),
        wall_s=(float(value["wall_s"][0]), float(value["wall_s"][1])),
        resources=tuple(map(_resources, value.get("resources", ()))),
    )
    count = len(told.measured)
    within = all(0 <= i < told.planned for i in told.measured)
    if len(told.failed) != count or len(told.build_s) != count or not within:
        raise ValueError
    if told.resources and len(told.resources) != count:
        raise ValueError
    return told


def _resources(value: dict[str, Any] | None) -> Resources | None:
    if value is None:
        return None
    told = Resources(
        int(value["registers"]),
        int(value["local_bytes"]),
        int(value["shared_bytes"]),
        float(value["occupancy"]),
    )
    least = min(told.registers, told.local_bytes, told.shared_bytes)
    if least < 0 or not 0.0 <= told.occupancy <= 1.0:
        raise ValueError
    return told
