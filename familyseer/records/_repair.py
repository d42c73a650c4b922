"""What is done with files that a crash or a stranger left: tails cut off, bad lines put aside."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from familyseer.records._journal import Journal, Line, RecordsError, read_lines, sync, sync_folder

log = logging.getLogger(__name__)

REJECTED = "rejected.jsonl"
# of a line put aside; what is longer was never a record
_MOST_KEPT = 1 << 20
_REPAIRED = ".repaired"


class Rejected(NamedTuple):
    """A line that cannot be used, and why."""

    line: Line
    reason: str


def check_lines(
    path: Path, limit: int, use: Callable[[Line], None]
) -> tuple[list[Rejected], Line | None]:
    """Gives each whole line to `use`, which raises ValueError with a reason to refuse one.

    Returns
    -------
    rejected, torn
        Lines that were refused, and the file's last line if it was refused or has no newline: what
        is left of a batch that never was finished.
    """
    rejected: list[Rejected] = []
    last = None
    for line in read_lines(path, limit):
        last = line
        try:
            if not line.whole:
                raise ValueError(
                    f"longer than {limit} bytes" if len(line.content) > limit else "no newline"
                )
            use(line)
        except RecursionError:
            rejected.append(Rejected(line, "nested too deeply"))
        except ValueError as error:
            rejected.append(Rejected(line, str(error).splitlines()[0] if str(error) else "bad"))
    if rejected and rejected[-1].line is last:
        return rejected[:-1], last
    return rejected, None


def cut_tail(path: Path, torn: Line) -> None:
    """Removes a line that a crash left half-written.

    Raises
    ------
    RecordsError
        The file cannot be changed.
    """
    log.warning(
        "%s: line %d was being written when its run ended; it is dropped", path, torn.number
    )
    try:
        os.truncate(path, torn.start)
    except OSError as error:
        raise RecordsError.of(error, path) from None


def put_aside(path: Path, rejected: Sequence[Rejected]) -> None:
    """Copies bad lines to ``rejected.jsonl`` beside their file, each with its number and reason.

    Raises
    ------
    RecordsError
        They cannot be written.
    """
    aside = Journal(path.with_name(REJECTED))
    for line, reason in rejected:
        text = line.content[:_MOST_KEPT].decode("utf-8", "backslashreplace")
        entry = {"file": path.name, "line": line.number, "reason": reason, "text": text}
        aside.append(json.dumps(entry).encode())
        log.warning("%s: line %d is moved to %s: %s", path, line.number, REJECTED, reason)
    sync([aside])


def replace_files(contents: Sequence[tuple[Path, Iterable[bytes]]]) -> None:
    """Gives files of one folder new lines: all of them or, whenever it is interrupted, none.

    The new files are written beside the old ones. That the first one has its final new name says
    that all are complete, and `finish_replacing` goes on from there after a crash.

    Raises
    ------
    RecordsError
        The files cannot be written.
    """
    for path, lines in reversed(contents):
        fresh = path.with_name(path.name + _REPAIRED)
        draft = path.with_name(f".{path.name}.draft")
        try:
            with draft.open("wb") as file:
                file.writelines(line + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(fresh)
            sync_folder(path.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise RecordsError.of(error, path) from None
    finish_replacing([path for path, _ in contents])


def finish_replacing(paths: Sequence[Path]) -> None:
    """Ends what an interrupted `replace_files` of the same files, in the same order, began.

    Raises
    ------
    RecordsError
        The files cannot be renamed.
    """
    fresh = [path.with_name(path.name + _REPAIRED) for path in paths]
    decided = fresh[0].exists()
    try:
        # the first one last, for it is what says that the others are to be taken
        for path, new in reversed(list(zip(paths, fresh, strict=True))):
            if not new.exists():
                continue
            if decided:
                new.replace(path)
                sync_folder(path.parent)
            else:
                new.unlink()
    except OSError as error:
        raise RecordsError.of(error, paths[0]) from None
