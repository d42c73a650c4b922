"""What is written when a round ends, in an order in which a crash loses nothing.

Records and failures first, synced to the disk; then the decisions that refer to them, the history,
and last what the run has used, which a power cut may cost their last lines. Whoever finds a line of
a later file therefore finds what it tells of.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from familyseer.check import Checker
from familyseer.decisions._clocks import LoggedClock
from familyseer.decisions._log import DecisionLog
from familyseer.decisions._tell import LoggedMeasure
from familyseer.options import TuneOptions
from familyseer.records import FailureLog
from familyseer.records._book import plain
from familyseer.run._folder import RunFolder
from familyseer.run._header import write_header
from familyseer.search import Clock, TaskState

log = logging.getLogger(__name__)

# cost models are saved on the way so that a killed run leaves them, and take at most this share
# of the time
SAVE_SHARE = 0.01
LEAST_SAVE_EVERY_S = 30.0
# how much of what a killed run has used may be forgotten
BOOK_EVERY_S = 1.0
# a candidate's object file and library take less
LEAST_ROOM_BYTES = 1 << 22


class Journal:
    """Writes what a run measures and decides.

    Parameters
    ----------
    database
        The `familyseer.records.RecordBook` of the run.
    checker
        Knows which schedules were found right.
    clock
        The run's clock, which is stopped when nothing can be written any more.

    Attributes
    ----------
    clock, measure
        What the search is to tell the time and measure by, so that its decisions are logged.
    failed
        The error that ended the run, or None.
    """

    def __init__(
        self,
        options: TuneOptions,
        folder: RunFolder,
        database: Any,
        clock: Clock,
        checker: Checker,
    ) -> None:
        self.clock = LoggedClock(clock)
        self.measure = LoggedMeasure()
        self.failed: OSError | None = None
        self._full: OSError | None = None
        self._live = clock
        self._folder = folder
        self._database = database
        self._checker = checker
        self._failures = FailureLog(folder.tuning / "failures.jsonl")
        self._decisions = DecisionLog(folder.tuning)
        self._trial = len(database)
        self._saved_at, self._save_s = clock.now(), 0.0
        self._booked_s = 0.0
        number = self._decisions.begin(write_header(options, folder, len(database)))
        if folder.resumed and folder.models.is_dir():
            # what the search starts from is part of what its decisions depend on
            kept = folder.tuning / f"costmodels-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder.models, kept)

    def on_measured(self, state: TaskState, done: list[Any]) -> None:
        """Notes why candidates failed; see `familyseer.search.Rounds`."""
        for one in done:
            if one.build_failed or one.run_failed:
                result = one.builder_result if one.build_failed else one.runner_result
                self._failures.add(
                    subgraph=state.subgraph.name,
                    trial=self._trial,
                    phase="build" if one.build_failed else "run",
                    reason=str(result.error_msg),
                    trace=plain(one.candidate.sch.trace.as_json()),
                )
            self._trial += 1
        if done and all(one.build_failed for one in done):
            self._full = _without_room(Path(tempfile.gettempdir()))

    def commit(
        self,
        done: Any,
        trials: int,
        best_us: float | None,
        estimated_us: float | None,
        cost_model: Any,
    ) -> None:
        """Makes a round durable; if that fails, tuning ends and `failed` says why.

        Parameters
        ----------
        done
            The `familyseer.search.Round`.
        trials
            Candidates measured in OUT so far.
        """
        state = done.state
        elapsed_s = round(self._folder.used.elapsed_s + done.elapsed_s, 3)
        row = (elapsed_s, trials, state.subgraph.name, state.family, best_us, estimated_us)
        try:
            if self._full is not None:
                # not the candidates' fault: the models must not be left to learn more of it
                raise self._full
            self._database.sync()
            self._failures.sync()
            self._decisions.round(self.measure.take(), *self.clock.take())
            self._folder.history.append(row)
            if done.elapsed_s - self._booked_s >= BOOK_EVERY_S:
                self._folder.book(done.elapsed_s, done.trials)
                self._booked_s = done.elapsed_s
            self._save_now_and_then(cost_model)
        except OSError as error:
            self._give_up(error)

    def end(self, stopped_by: str) -> None:
        """Writes down how tuning ended."""
        if self.failed is None:
            try:
                self._decisions.end(stopped_by, *self.clock.take())
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Closes the files."""
        self._failures.close()
        self._decisions.close()

    def _give_up(self, error: OSError) -> None:
        log.warning("tuning ends: %s", error)
        self.failed = error
        self._live.stop()

    def _save_now_and_then(self, cost_model: Any) -> None:
        began = time.monotonic()
        if began - self._saved_at < max(LEAST_SAVE_EVERY_S, self._save_s / SAVE_SHARE):
            return
        self._folder.save_models(cost_model)
        self._folder.save_checked(self._checker.found_right())
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - began


def _without_room(folder: Path) -> OSError | None:
    """The error that building there would meet, if there is no room left for a candidate."""
    try:
        if shutil.disk_usage(folder).free >= LEAST_ROOM_BYTES:
            return None
    except OSError as error:
        return error
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
