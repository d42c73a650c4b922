"""The tables of a run that grow by lines: history.csv and tuning/accuracy.csv, damaged or whole."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from familyseer.report._facts import SHORT, plausible, shown
from familyseer.safe_json import read_limited

_SIZE_LIMIT = 64 << 20


@dataclass(frozen=True)
class RoundRow:
    """A measured round as history.csv has it; a latency is None while there is none."""

    elapsed_s: float
    trials: int
    subgraph: str
    family: str
    best_us: float | None
    estimated_us: float | None


@dataclass(frozen=True)
class AccuracyRow:
    """A family's ranking accuracy, 0 to 1, from a moment on."""

    elapsed_s: float
    trials: int
    family: str
    accuracy: float


Row = TypeVar("Row", RoundRow, AccuracyRow)


def read_rounds(path: Path) -> tuple[list[RoundRow], str]:
    """The rounds in a file in the order of time, and what is missing of it: empty for nothing."""
    return _read(path, 6, _round)


def read_accuracy(path: Path) -> tuple[list[AccuracyRow], str]:
    """As `read_rounds`, of what `familyseer.report.AccuracyLog` writes; it may have had nothing."""
    if not path.exists():
        return [], ""
    return _read(path, 4, _accuracy)


def _read(path: Path, columns: int, parse: Callable[[list[str]], Row]) -> tuple[list[Row], str]:
    if not path.exists():
        return [], f"{path}: not there"
    try:
        content = read_limited(path, _SIZE_LIMIT).decode(errors="replace")
    except (OSError, ValueError) as error:
        return [], f"{path}: {getattr(error, 'strerror', None) or error}"
    # the last piece is empty, or what a crash left of a line
    lines = content.split("\n")[1:-1]
    rows: list[Row] = []
    for line in lines:
        try:
            # line by line: one that is damaged must not take the rest with it
            cells = next(csv.reader([line.strip("\r")]))
            if len(cells) == columns:
                rows.append(parse(cells))
        except (csv.Error, StopIteration, ValueError):
            continue
    rows.sort(key=lambda row: row.elapsed_s)
    lost = len(lines) - len(rows)
    return rows, f"{path}: {lost} of {len(lines)} lines are damaged" if lost else ""


def _round(cells: list[str]) -> RoundRow:
    best, estimate = (_number(cell) if cell else None for cell in cells[4:])
    subgraph, family = (shown(cell, SHORT) for cell in cells[2:4])
    return RoundRow(_number(cells[0]), int(cells[1]), subgraph, family, best, estimate)


def _accuracy(cells: list[str]) -> AccuracyRow:
    accuracy = _number(cells[3])
    if accuracy > 1:
        raise ValueError(cells[3])
    return AccuracyRow(_number(cells[0]), int(cells[1]), shown(cells[2], SHORT), accuracy)


def _number(cell: str) -> float:
    value = float(cell)
    if value != 0 and not plausible(value):
        raise ValueError(cell)
    return value
