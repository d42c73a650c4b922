"""Code of the user's that is told of a run while it goes on, and may end it."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from familyseer.errors import UserError
from familyseer.progress import Observer, PlainProgress, RoundEvent, RunInfo
from familyseer.search._clock import Clock

log = logging.getLogger("familyseer")


class StopTuning(Exception):  # noqa: N818 - it asks for something and is no error
    """Raised by a callback to end the run as its deadline would.

    The round under way is the last one; then the best schedules are compiled, checked and timed as
    ever. The text says why, for the log.
    """


class Callback(Observer):
    """What `familyseer.tune` tells of a run; a base class whose methods do nothing.

    Override what you want to hear of. The methods are called in the thread that called `tune`, and
    tuning waits for them:

    1. `on_phase(name)` whenever the kind of work changes: ``loading``, ``untuned``,
       ``first pass``, ``tuning``, ``compiling``, ``checking``.
    2. `on_start(info)` once, with a `familyseer.progress.RunInfo`, when the families are known.
    3. `on_round(event)` after every measured round, with a `familyseer.progress.RoundEvent`.
    4. `on_message(text)` with a line that the user should read.
    5. `on_end(summary)` once, with what ``summary.json`` holds.

    Any of them may raise `StopTuning`. Another exception ends the run at once, without a library.
    """


class StopWhenFlat(Callback):
    """Ends a run once the model's estimated latency has stopped falling.

    Parameters
    ----------
    seconds, rounds
        For how long it may fall by less than `gain`; the first of the two that is over ends the
        run. At least one is given.
    gain
        The part of the latency, between 0 and 1, that counts as falling.

    Raises
    ------
    UserError
        Neither limit is given, or a value is out of its range.
    """

    def __init__(
        self, *, seconds: float | None = None, rounds: int | None = None, gain: float = 0.01
    ) -> None:
        if seconds is None and rounds is None:
            raise UserError("StopWhenFlat: expected seconds or rounds")
        for name, value in (("seconds", seconds), ("rounds", rounds)):
            if value is not None and not value > 0:
                raise UserError(f"StopWhenFlat: {name} is {value}: expected a number above 0")
        if not 0 <= gain < 1:
            raise UserError(f"StopWhenFlat: gain is {gain}: expected 0 or more and less than 1")
        self.seconds = seconds
        self.rounds = rounds
        self.gain = gain
        self._forget()

    def _forget(self) -> None:
        self._level_us: float | None = None
        self._since_s = 0.0
        self._rounds_since = 0

    def on_start(self, info: RunInfo) -> None:
        """Forgets an earlier run."""
        self._forget()

    def on_round(self, event: RoundEvent) -> None:
        """Compares the estimate with the one that last counted as an improvement."""
        estimate_us = event.estimated_model_us
        if estimate_us is None:
            return
        if self._level_us is None or estimate_us <= (1 - self.gain) * self._level_us:
            self._level_us, self._since_s, self._rounds_since = estimate_us, event.elapsed_s, 0
            return
        self._rounds_since += 1
        flat_s = event.elapsed_s - self._since_s
        if self.seconds is not None and flat_s >= self.seconds:
            raise StopTuning(f"flat for {flat_s:.0f} s")
        if self.rounds is not None and self._rounds_since >= self.rounds:
            raise StopTuning(f"flat for {self._rounds_since} rounds")


class StopAt(Callback):
    """Ends a run once the model is estimated to be fast enough.

    The estimate is the sum of the subgraphs' best times; the latency of the whole model, measured
    at the end, is near it but not the same.

    Parameters
    ----------
    latency
        Seconds.
    speedup
        How many times as fast as the untuned model.

    Raises
    ------
    UserError
        Neither is given, or a value is not above 0.
    """

    def __init__(self, *, latency: float | None = None, speedup: float | None = None) -> None:
        if latency is None and speedup is None:
            raise UserError("StopAt: expected a latency or a speedup")
        for name, value in (("latency", latency), ("speedup", speedup)):
            if value is not None and not value > 0:
                raise UserError(f"StopAt: {name} is {value}: expected a number above 0")
        self.latency = latency
        self.speedup = speedup
        self._untuned_us: float | None = None

    def on_start(self, info: RunInfo) -> None:
        """Takes note of the untuned latency."""
        self._untuned_us = info.untuned_us

    def on_round(self, event: RoundEvent) -> None:
        """Compares the estimate with what is wanted."""
        estimate_us = event.estimated_model_us
        if estimate_us is None:
            return
        if self.latency is not None and estimate_us <= self.latency * 1e6:
            raise StopTuning(f"estimated at {estimate_us * 1e-6:.3g} s")
        if self.speedup is not None and self._untuned_us is not None:
            ratio = self._untuned_us / estimate_us
            if ratio >= self.speedup:
                raise StopTuning(f"estimated at {ratio:.2f} times as fast as untuned")


class Watchers(Observer):
    """Tells the log and some callbacks of a run, and stops its clock when one of them asks."""

    def __init__(self, callbacks: Sequence[Observer], clock: Clock) -> None:
        self._clock = clock
        self._callbacks = [_Logged(clock.started_at), *callbacks]

    def _tell(self, method: str, *told: Any) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, method)(*told)
            except StopTuning as wish:
                log.info("a callback ends the run: %s", wish or "it does not say why")
                self._clock.stop()

    def on_start(self, info: RunInfo) -> None:
        self._tell("on_start", info)

    def on_phase(self, name: str) -> None:
        self._tell("on_phase", name)

    def on_round(self, event: RoundEvent) -> None:
        self._tell("on_round", event)

    def on_message(self, text: str) -> None:
        self._tell("on_message", text)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._tell("on_end", summary)


class _Logged(PlainProgress):
    """What the command line shows of a run, as records of the log."""

    def __init__(self, started_at: float) -> None:
        super().__init__(_LogLines(logging.INFO), started_at=started_at)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        from familyseer.cli._ending import print_warnings

        super().on_end(summary)
        print_warnings(summary, _LogLines(logging.WARNING))


class _LogLines(io.TextIOBase, TextIO):
    """A stream each of whose lines is a record of the log."""

    def __init__(self, level: int) -> None:
        self._level = level

    def write(self, text: str) -> int:
        line = text.strip().removeprefix("familyseer: warning: ")
        if line:
            log.log(self._level, "%s", line)
        return len(text)
