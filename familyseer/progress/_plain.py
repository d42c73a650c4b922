"""Progress as plain lines, now and then: for pipes, log files and continuous integration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

from familyseer.duration import format_duration
from familyseer.progress._base import Observer, RoundEvent, RunInfo
from familyseer.progress._state import RunState, phase_words
from familyseer.units import format_count, format_latency

_PAUSE_S = 5.0
# a long run is told of less and less often, up to so many seconds
_PAUSE_SHARE, _LONGEST_PAUSE_S = 0.05, 60.0


class PlainProgress(Observer):
    """One line a change of phase and a message, and at most one every few seconds for rounds.

    Parameters
    ----------
    stream
        Where the lines go. When it cannot be written any more, the rest is silent.
    started_at
        The `time.monotonic` from which time is counted; now by default.
    pause_s
        The least time between two lines about rounds, in seconds. It grows to a minute as the run
        goes on, so that an hour is some hundred lines.
    """

    def __init__(
        self, stream: TextIO, *, started_at: float | None = None, pause_s: float = _PAUSE_S
    ) -> None:
        self._stream = stream
        self._started_at = time.monotonic() if started_at is None else started_at
        self._pause_s = pause_s
        self._state = RunState()
        self._said_at = float("-inf")
        self._unsaid = False
        self._gone = False

    def on_start(self, info: RunInfo) -> None:
        self._state.start(info)
        limits = [] if info.budget_s is None else [format_duration(info.budget_s)]
        limits += [] if info.trials is None else [f"{info.trials} trials"]
        self._say(
            f"{info.model} on {info.target}: {format_count(info.subgraphs, 'subgraph')} in "
            f"{format_count(len(info.families), 'family', 'families')}, "
            f"budget {' or '.join(limits) or 'without limit'}"
        )

    def on_phase(self, name: str) -> None:
        if name == self._state.phase:
            return
        self._say_unsaid()
        self._state.phase = name
        self._say(phase_words(name))

    def on_round(self, event: RoundEvent) -> None:
        self._state.add(event)
        self._unsaid = True
        now = time.monotonic()
        grown_s = min(_PAUSE_SHARE * (now - self._started_at), _LONGEST_PAUSE_S)
        if now - self._said_at >= max(self._pause_s, grown_s):
            self._say_unsaid()

    def on_message(self, text: str) -> None:
        self._say(text)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._say_unsaid()

    def close(self) -> None:
        self._say_unsaid()

    def _say_unsaid(self) -> None:
        """Says the last round, unless it was said already."""
        if not self._unsaid:
            return
        self._unsaid = False
        self._said_at = time.monotonic()
        self._say(_round_line(self._state, time.monotonic() - self._started_at))

    def _say(self, text: str) -> None:
        if self._gone:
            return
        elapsed = format_duration(round(time.monotonic() - self._started_at))
        line = " ".join(text.split())
        try:
            self._stream.write(f"[{elapsed:>6}] {line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._gone = True


def _round_line(state: RunState, elapsed_s: float) -> str:
    event = state.last
    assert event is not None
    left_s = state.left_s(elapsed_s)
    left = "" if left_s is None else f"{format_duration(round(left_s))} left, "
    failed = f" ({state.failed} failed)" if state.failed else ""
    why = f" ({event.why or event.kind})"
    return (
        f"{left}{event.trials} trials{failed}, {state.latency_words}; "
        f"{event.family}: {event.subgraph} {format_latency(event.best_us)}{why}"
    )
