"""The best schedule of each subgraph out of a run's records, as text and in a few words.

TVM is not asked: a report must be quick to make, and what is in OUT may come from anywhere.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from familyseer.records import RecordsError
from familyseer.records._files import RECORDS, WORKLOADS, Contents, read_files, record_of
from familyseer.records._journal import read_lines
from familyseer.report._facts import LONG, SHORT, shown
from familyseer.safe_json import parse_json
from familyseer.units import format_count

# more would be read for longer than a report may take
_LARGEST_BYTES = 512 << 20
_LINE_LIMIT = 1 << 20
# of one trace
_LONGEST_TEXT = 40_000
_BEGINS_RUN = b'{"run":'
# what an instruction makes of a program, in the order in which people ask
_WORDS = {
    "Tensorize": "tensor intrinsics",
    "Parallel": "parallel",
    "Vectorize": "vectorised",
    "CacheRead": "cached reads",
    "CacheWrite": "cached writes",
    "RFactor": "split reduction",
    "ComputeInline": "inlined stages",
}


@dataclass(frozen=True)
class Schedule:
    """The fastest valid record of a subgraph.

    Attributes
    ----------
    run_us
        Median of its measured repeats, in microseconds.
    trials, failed
        Records of the subgraph, and those of them that are failures.
    position
        Which of them it is, from 1.
    run
        Which of the runs in OUT measured it, from 1; 0 if the decision log does not tell.
    words
        What it does to the program.
    trace
        Its instructions, a line each.
    """

    run_us: float
    trials: int
    failed: int
    position: int
    run: int
    words: str
    trace: str


def read_schedules(tuning: Path) -> tuple[dict[str, Schedule], str]:
    """Schedules by subgraph key, and what is missing, empty for nothing.

    Parameters
    ----------
    tuning
        The run's ``tuning``.
    """
    paths = [tuning / WORKLOADS, tuning / RECORDS]
    if not all(path.is_file() for path in paths):
        return {}, "the records of the measured candidates: not there"
    try:
        if sum(path.stat().st_size for path in paths) > _LARGEST_BYTES:
            return {}, "the records of the measured candidates: too many to be read for a report"
        contents = read_files(tuning)
        found = _best_of_each(contents, paths[1], _runs_begin(tuning / "decisions.jsonl"))
    except (OSError, RecordsError) as error:
        return {}, f"the records of the measured candidates: {error.strerror or error}"
    bad = sum(map(len, contents.rejected)) + sum(torn is not None for torn in contents.torn)
    return found, f"the records of the measured candidates: {bad} lines are damaged" if bad else ""


def _best_of_each(contents: Contents, records: Path, begins: list[int]) -> dict[str, Schedule]:
    # by hash: a workload may be there twice, when a run of another version began
    owned: dict[str, list[int]] = {}
    for position, owner in enumerate(contents.owners):
        workload = contents.workloads[owner]
        if workload is not None:
            owned.setdefault(f"{int(workload.hash):016x}", []).append(position)
    found = {}
    with records.open("rb") as file:
        for key, positions in owned.items():
            best = min(positions, key=lambda position: contents.times[position])
            if not math.isfinite(contents.times[best]):
                continue
            file.seek(contents.starts[best])
            line = file.read(contents.ends[best] - contents.starts[best])
            try:
                (instructions, decisions), seconds, *_ = record_of(line)
            except ValueError:
                continue
            found[key] = Schedule(
                run_us=statistics.median(seconds) * 1e6,
                trials=len(positions),
                failed=sum(math.isinf(contents.times[p]) for p in positions),
                position=positions.index(best) + 1,
                run=sum(begin <= best for begin in begins),
                words=_in_words(instructions),
                trace=_as_text(instructions, dict(decisions)),
            )
    return found


def _runs_begin(log: Path) -> list[int]:
    """Of each run in OUT, the number of records that were there when it began."""
    begins = []
    for line in read_lines(log, _LINE_LIMIT):
        if line.whole and line.content.startswith(_BEGINS_RUN):
            try:
                begins.append(int(parse_json(line.content, "a run's header")["run"]["records"]))
            except (ValueError, TypeError, KeyError):
                return []
    return begins


def _in_words(instructions: list[Any]) -> str:
    kinds = Counter(str(one[0]) for one in instructions)
    words = [word for kind, word in _WORDS.items() if kinds[kind]]
    tiles = kinds["SamplePerfectTile"]
    if tiles:
        words.insert(0, f"{format_count(tiles, 'loop')} tiled")
    if kinds["Bind"]:
        words.append("bound to GPU threads")
    if set(kinds) <= {"GetSBlock", "EnterPostproc"}:
        return "as TVM leaves it"
    return ", ".join(words) or format_count(len(instructions), "instruction")


def _as_text(instructions: list[Any], decisions: dict[int, Any]) -> str:
    lines: list[str] = []
    length = 0
    for line in _lines(instructions, decisions):
        length += len(line) + 1
        if length > _LONGEST_TEXT:
            lines.append(f"… {len(instructions)} instructions in all")
            break
        lines.append(line)
    return "\n".join(lines)


def _lines(instructions: list[Any], decisions: dict[int, Any]) -> Iterator[str]:
    for position, (kind, inputs, attributes, outputs) in enumerate(instructions):
        given = ", ".join([*map(_plain, inputs), *map(_plain, attributes)])
        made = ", ".join(map(_plain, outputs))
        line = f"{made} = " if made else ""
        line += f"{shown(kind, SHORT)}({given})"
        if position in decisions:
            line += f"  # decided: {_plain(decisions[position])}"
        yield shown(line, LONG)


def _plain(value: Any) -> str:
    # names of loops and blocks are bare, texts carry quotes of their own
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
