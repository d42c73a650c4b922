"""Why candidates failed: a line each, as durable as the records."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from familyseer.records._journal import Journal, Line, RecordsError, read_lines, sync
from familyseer.records._repair import (
    check_lines,
    cut_tail,
    finish_replacing,
    put_aside,
    replace_files,
)
from familyseer.safe_json import parse_json

log = logging.getLogger(__name__)

PHASES = ("build", "run", "check")
# a trace of thousands of instructions fits
LINE_LIMIT = 8 << 20
# of a reason, which may be whatever a candidate printed
_LONGEST_REASON = 2000


@dataclass(frozen=True)
class Failure:
    """One candidate that failed.

    Attributes
    ----------
    subgraph
        Its name.
    trial
        Number of the trial within the run, from 0.
    phase
        ``build``, ``run`` or ``check``.
    reason
        Why, as one text.
    trace
        MetaSchedule's JSON of its trace or a digest of it, None if neither is known.
    """

    subgraph: str
    trial: int
    phase: str
    reason: str
    trace: Any = None


class FailureLog:
    """``failures.jsonl``, opened to be continued.

    A line torn by a crash is cut off with a warning, other bad lines are moved to
    ``rejected.jsonl`` beside the file.

    Parameters
    ----------
    path
        The file; made by the first sync if it is missing.

    Raises
    ------
    RecordsError
        The file cannot be read or put in order.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        finish_replacing([path])
        rejected, torn = check_lines(path, LINE_LIMIT, _check)
        if torn is not None:
            cut_tail(path, torn)
        if rejected:
            put_aside(path, rejected)
            bad = {one.line.number for one in rejected}
            kept = (x.content for x in read_lines(path, LINE_LIMIT) if x.number not in bad)
            replace_files([(path, kept)])
        self._journal = Journal(path)

    def add(self, *, subgraph: str, trial: int, phase: str, reason: str, trace: Any = None) -> None:
        """Notes a failure; see `Failure`. It is durable after the next `sync`.

        Raises
        ------
        ValueError
            The phase is none of `PHASES`.
        """
        if phase not in PHASES:
            raise ValueError(f"phase is {phase!r}: expected {', '.join(PHASES)}")
        one = Failure(subgraph, int(trial), phase, reason[:_LONGEST_REASON], trace)
        # without surrogates, which no reader need accept: a candidate may print anything
        text = json.dumps(asdict(one), ensure_ascii=False, allow_nan=False)
        self._journal.append(text.encode("utf-8", "replace"))

    def sync(self) -> None:
        """Makes durable what was added.

        Raises
        ------
        RecordsError
            The file could not be written and is as it was; what was added waits for the next sync.
        """
        sync([self._journal])

    def close(self) -> None:
        """Tries a last `sync`; a warning says so where it fails, as `RecordBook.close` does."""
        try:
            self.sync()
        except RecordsError as error:
            log.warning("the last failures are not kept: %s", error)


def read_failures(path: Path) -> list[Failure]:
    """The failures of a run, oldest first; none where there is no file.

    Lines that cannot be read are left out with a warning.

    Raises
    ------
    RecordsError
        The file cannot be read.
    """
    found: list[Failure] = []
    rejected, torn = check_lines(Path(path), LINE_LIMIT, lambda x: found.append(_failure(x)))
    for line, reason in rejected:
        log.warning("%s: line %d is left out: %s", path, line.number, reason)
    if torn is not None:
        log.warning("%s: line %d is left out: not whole", path, torn.number)
    return found


def _check(line: Line) -> None:
    _failure(line)


def _failure(line: Line) -> Failure:
    value = parse_json(line.content, "a failure")
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    texts = [value.get(name) for name in ("subgraph", "phase", "reason")]
    trial = value.get("trial")
    if not all(isinstance(text, str) for text in texts) or type(trial) is not int:
        raise ValueError("expected subgraph, trial, phase and reason")
    if value["phase"] not in PHASES:
        raise ValueError(f"phase {value['phase'][:40]!r} is none of {', '.join(PHASES)}")
    return Failure(value["subgraph"], trial, value["phase"], value["reason"], value.get("trace"))
