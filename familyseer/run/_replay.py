"""A run's decisions made again: its seed, its records and its clock's answers, and nothing else."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from familyseer.decisions._clocks import RetoldClock
from familyseer.decisions._log import FILE, LoggedRun, Told, read_log
from familyseer.decisions._tell import RetoldMeasure
from familyseer.errors import UserError
from familyseer.run._header import Header, read_header
from familyseer.run._summary import versions

_DATABASE = ("database_workload.json", "database_tuning_record.json")
_EXPECTED = "expected what `familyseer tune` left in its OUT"


@dataclass(frozen=True)
class Replayed:
    """What became of one run's decisions.

    Attributes
    ----------
    number
        Of the run in its folder, from 1; the later ones resumed it.
    rounds, trials
        Made again, and the same.
    stopped_by
        What ended the run; None where it was killed and the log just ends.
    difference
        Where it first decides otherwise, in one line; None if nowhere.
    versions
        Packages whose version is another one than the run's, ``"1.0 -> 1.1"`` by name.
    """

    number: int
    rounds: int
    trials: int
    stopped_by: str | None
    difference: str | None
    versions: dict[str, str]


class _DifferError(Exception):
    pass


class _LogEndsError(Exception):
    pass


class _Feed:
    """A log's answers, measurements and records, given out in their order."""

    def __init__(self, run: LoggedRun, records: Iterator[tuple[Any, list[float]]]) -> None:
        self._answers = deque(
            pair for line in run.lines for pair in zip(line.asked, line.answers, strict=True)
        )
        self._told = deque(one for line in run.lines for one in line.rounds)
        self._records = records

    def answer(self, question: str) -> float:
        if not self._answers:
            raise _LogEndsError
        asked, answer = self._answers.popleft()
        if asked != question:
            raise _DifferError("the search goes another way between two rounds")
        return answer

    def told(self) -> Told:
        if not self._told:
            raise _LogEndsError
        return self._told.popleft()

    def record(self) -> tuple[Any, list[float]]:
        found = next(self._records, None)
        if found is None:
            raise _DifferError(f"there are fewer records than {FILE} tells of")
        return found

    @property
    def used_up(self) -> bool:
        return not self._told


def replay(
    out: Path, on_round: Callable[[int, int], None] = lambda _run, _round: None
) -> list[Replayed]:
    """Makes the decisions of every run in a folder again, from its records.

    Nothing is built, measured or written. Each run is followed to its end or to the first decision
    that comes out otherwise.

    Parameters
    ----------
    out
        What `familyseer tune` left.
    on_round
        Called with the numbers of run and round as they are made again.

    Raises
    ------
    UserError
        The folder holds no log of decisions, a damaged one, or the model cannot be had any more.
    """
    try:
        runs = read_log(out / "tuning")
    except FileNotFoundError:
        from familyseer.export._kernels._spamm import product_summary

        if product_summary(out) is not None:
            raise UserError(
                f"{out}: is of `familyseer spamm tune`, which logs no decisions; {_EXPECTED}"
            ) from None
        raise UserError(f"{out}: holds no tuning/{FILE}; {_EXPECTED}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; {_EXPECTED}") from None
    if not runs:
        raise UserError(f"{out / 'tuning' / FILE}: tells of no run; {_EXPECTED}")
    found = []
    for number, run in enumerate(runs, 1):
        found.append(_replay_one(out, number, run, partial(on_round, number)))
    return found


def _replay_one(
    out: Path, number: int, run: LoggedRun, on_round: Callable[[int], None]
) -> Replayed:
    try:
        header = read_header(run.header, out)
    except ValueError as error:
        raise UserError(f"{out / 'tuning' / FILE}: run {number}: {error}; {_EXPECTED}") from None
    then, here = header.versions, versions()
    others = {n: f"{then[n]} -> {here[n]}" for n in then if n in here and here[n] != then[n]}
    feed = _Feed(run, _records(out / "tuning", header.records))
    done = [0, 0]

    def count(round_: Any) -> None:
        done[0] += 1
        done[1] = round_.trials
        on_round(done[0])

    stopped_by, difference = run.stopped_by, None
    try:
        again = _search_again(out, number, header, feed, count)
        if again != stopped_by and stopped_by is not None:
            difference = f"it ends by {again}, and ended by {stopped_by}"
        elif not feed.used_up:
            difference = f"it ends after {done[0]} rounds, and the run went on"
    except _LogEndsError:
        if stopped_by is not None:
            difference = f"it goes on, and the run ended by {stopped_by}"
    except _DifferError as error:
        difference = f"round {done[0] + 1}: {error}"
    return Replayed(number, done[0], done[1], stopped_by, difference, others)


def _search_again(
    out: Path,
    number: int,
    header: Header,
    feed: _Feed,
    on_round: Callable[[Any], None],
) -> str:
    from familyseer.families import form_families
    from familyseer.models import load_asked
    from familyseer.run._history import read_rows
    from familyseer.run._restore import open_database
    from familyseer.run._session import Earlier, make_rounds
    from familyseer.run._spamm_file import rewritten
    from familyseer.run._warm_start import WarmStart
    from familyseer.search import BudgetLoop
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target

    def differ(text: str) -> None:
        raise _DifferError(text)

    options = header.options
    target = resolve_target(options.target)
    model = load_asked(options)
    mod = rewritten(out, model.mod, target) if options.spamm else model.mod
    subgraphs = extract_subgraphs(fuse(mod, target), target)
    warm_start = None
    if options.warm_start:
        warm_start = WarmStart(
            options.warm_start, out, target, any_target=options.warm_start_any_target
        )
    earlier = None
    if header.resumed:
        rows = read_rows(out / "history.csv")[: header.rows]
        earlier = Earlier(out / "tuning" / f"costmodels-{number}", rows)
    trials = options.trials
    if trials is not None:
        trials = max(0, trials - header.unfinished_trials)
    with ExitStack() as stack:
        before = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="familyseer-replay-")))
        _copy_records(out / "tuning", before, header.records)
        database = open_database(before)
        stack.callback(database.close)
        rounds = make_rounds(
            options,
            subgraphs,
            form_families(subgraphs, options.families),
            target,
            clock=RetoldClock(feed.answer),
            database=database,
            builder=None,
            runner=None,
            max_trials=trials,
            earlier=earlier,
            warm_start=warm_start,
            measure=RetoldMeasure(feed.told, feed.record, differ),
        )
        return BudgetLoop(rounds, on_round=on_round).run()


def _copy_records(tuning: Path, to: Path, records: int) -> None:
    """The database as it was when so many records were in it."""
    workloads, tuned = (tuning / name for name in _DATABASE)
    if workloads.exists():
        shutil.copy(workloads, to / workloads.name)
    with (to / tuned.name).open("wb") as copy:
        copy.writelines(itertools.islice(_lines(tuned), records))


def _records(tuning: Path, skip: int) -> Iterator[tuple[Any, list[float]]]:
    """Trace and seconds of the records after the first ones, as JSON has them."""
    for line in itertools.islice(_lines(tuning / _DATABASE[1]), skip, None):
        try:
            _, (trace, run_secs, *_) = json.loads(line)
            yield trace, [float(s) for s in run_secs]
        except (ValueError, TypeError):
            return


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file
