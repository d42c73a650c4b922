"""history.csv: a line a measured round, appended as it goes."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from familyseer.search import TaskState

HISTORY_COLUMNS = (
    "elapsed_s",
    "trials",
    "subgraph",
    "family",
    "best_us",
    "estimated_model_us",
)


@dataclass(frozen=True)
class Row:
    """One measured round; `best_us` is None while the subgraph has no valid schedule."""

    elapsed_s: float
    trials: int
    subgraph: str
    best_us: float | None


class History:
    """The file, new or with what earlier runs wrote.

    A last line that a crash tore is cut off.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    OSError
        It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        if not whole:
            self._append(HISTORY_COLUMNS)
        self.rows = list(_rows(whole))

    def append(self, cells: Sequence[Any]) -> None:
        """Appends one measured round; see `HISTORY_COLUMNS`."""
        self._append(["" if cell is None else cell for cell in cells])

    def _append(self, cells: Sequence[Any]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(cells)
        # unbuffered and in one call: a line is there or it is not
        with self.path.open("ab", buffering=0) as file:
            length = file.tell()
            try:
                content = line.getvalue().encode()
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError as error:
                error.filename = str(self.path)
                with contextlib.suppress(OSError):
                    os.truncate(self.path, length)
                raise


def read_rows(path: Path) -> list[Row]:
    """The rounds that a history tells of, none if there is no file."""
    return list(_rows(path.read_bytes())) if path.exists() else []


def _rows(content: bytes) -> Iterator[Row]:
    """The rounds that a history tells of; lines that are none are left out."""
    for line in content.decode(errors="replace").split("\n"):
        try:
            # line by line: one that is damaged must not take the rest with it
            cells = dict(zip(HISTORY_COLUMNS, next(csv.reader([line.strip("\r")])), strict=True))
            best = cells["best_us"]
            row = Row(
                float(cells["elapsed_s"]),
                int(cells["trials"]),
                cells["subgraph"],
                float(best) if best else None,
            )
        except (csv.Error, StopIteration, ValueError):
            continue
        if math.isfinite(row.elapsed_s):
            yield row


def restore_progress(states: Iterable[TaskState], rows: Sequence[Row]) -> None:
    """Puts back what earlier rounds cost and brought, which decides where the next ones go.

    A round is taken to have lasted from the end of the one before it, which is what it cost the
    run; the first round of a resumed run lasted no longer than the others did on average.
    """
    by_name = {state.subgraph.name: state for state in states}
    usual = (rows[-1].elapsed_s - rows[0].elapsed_s) / (len(rows) - 1) if len(rows) > 1 else 0.0
    before_s, before_trials = 0.0, 0
    for row in rows:
        lasted = max(0.0, row.elapsed_s - before_s)
        # loading and the end of an earlier run stand between two rounds, and are none's cost
        lasted = min(lasted, 10.0 * usual) if usual else lasted
        measured = max(0, row.trials - before_trials)
        before_s, before_trials = row.elapsed_s, row.trials
        state = by_name.get(row.subgraph)
        if state is None:
            continue
        best_s, state.best_s = state.best_s, math.inf if row.best_us is None else row.best_us * 1e-6
        state.close_round(lasted, measured)
        state.best_s = best_s
        # nothing is used up for good: a resumed search looks again
        state.exhausted, state.empty_rounds = False, 0
