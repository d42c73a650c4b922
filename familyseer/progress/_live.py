"""Progress as a live display on a terminal: time, latency, trials, and a line a family."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from familyseer.duration import format_duration
from familyseer.progress._base import Observer, RoundEvent, RunInfo
from familyseer.progress._state import FamilyState, RunState, phase_words
from familyseer.units import format_count, format_latency, format_percent

_REFRESHES_PER_SECOND = 2
_WIDTH_OF_BAR = 64
_LONGEST_NAME = 28


class RichProgress(Observer):
    """A display that is redrawn in place, twice a second, and goes away when the run ends.

    Messages stay on the screen above it.

    Parameters
    ----------
    stream
        The terminal.
    started_at
        The `time.monotonic` from which time is counted; now by default.
    console
        In place of one made for `stream`.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        started_at: float | None = None,
        console: Console | None = None,
    ) -> None:
        self._started_at = time.monotonic() if started_at is None else started_at
        self._console = console or Console(file=stream, highlight=False)
        self._state = RunState()
        self._lock = threading.Lock()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )

    def on_start(self, info: RunInfo) -> None:
        with self._lock:
            self._state.start(info)

    def on_phase(self, name: str) -> None:
        with self._lock:
            self._state.phase = name

    def on_round(self, event: RoundEvent) -> None:
        with self._lock:
            self._state.add(event)

    def on_message(self, text: str) -> None:
        # a terminal that went away does not end the run
        with contextlib.suppress(OSError):
            self._console.print(Text(" ".join(text.split())))

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def __enter__(self) -> RichProgress:
        self._live.start()
        return self

    def _render(self) -> RenderableType:
        # Rich asks the standard streams, which a run sends elsewhere; a window may be resized
        with contextlib.suppress(OSError, ValueError):
            columns, lines = os.get_terminal_size(self._console.file.fileno())
            if columns and lines:
                self._console.size = (columns, lines)
        with self._lock:
            elapsed_s = time.monotonic() - self._started_at
            return render(self._state, elapsed_s, *self._console.size)


def render(state: RunState, elapsed_s: float, width: int, height: int) -> RenderableType:
    """The display for a state, `elapsed_s` seconds into the run, in so many columns and lines."""
    info = state.info
    if info is None:
        phase = phase_words(state.phase or "starting")
        return _line((f"{phase}, {format_duration(round(elapsed_s))}", ""))
    parts: list[RenderableType] = [
        _line((info.model, "bold"), ("  ", ""), (info.target, "dim")),
        _time_line(info, state, elapsed_s, width),
        *_latency_lines(state, width),
    ]
    if state.last is not None:
        parts.append(_round_line(state.last))
    # a blank line, the headings, how many are hidden, and the line of the cursor
    rows = height - len(parts) - 4
    if rows > 0:
        parts += [Text(""), _family_table(state, elapsed_s, rows, width)]
    return Group(*parts[: max(1, height - 1)])


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for content, style in parts:
        text.append(content, style)
    return text


def _time_line(info: RunInfo, state: RunState, elapsed_s: float, width: int) -> RenderableType:
    used = format_duration(round(elapsed_s))
    left_s = state.left_s(elapsed_s)
    if info.budget_s is not None and left_s is not None:
        done = elapsed_s / info.budget_s if info.budget_s > 0 else 1.0
        text = f"{used} used, {format_duration(round(left_s))} left"
    else:
        done = state.trials / info.trials if info.trials else 0.0
        text = f"{used} used"
    words = _line((text, ""), ("  ", ""), (phase_words(state.phase), "dim"))
    if width < _WIDTH_OF_BAR:
        return words
    grid = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(1.0, min(1.0, done), width=20, complete_style="cyan", finished_style="cyan")
    grid.add_row(bar, words)
    return grid


def _latency_lines(state: RunState, width: int) -> list[RenderableType]:
    """The latency and the trials, on one line where there is room."""
    trials = f"trials {state.trials}"
    if state.info is not None and state.info.trials is not None:
        trials += f" of {state.info.trials}"
    trials += f" ({state.failed} failed)" if state.failed else ""
    model = state.latency_words
    if len(model) + len(trials) + 3 <= width:
        return [_line((model, "bold"), ("   ", ""), (trials, ""))]
    return [_line((model, "bold")), _line((trials, ""))]


def _round_line(event: RoundEvent) -> Text:
    """The last round: of which subgraph, what is known of it, and why it was its turn."""
    words = f"{event.subgraph} {format_latency(event.best_us)}"
    return _line((words, ""), (f": {event.why or event.kind}", "dim"))


def _family_table(state: RunState, elapsed_s: float, rows: int, width: int) -> RenderableType:
    columns = [column for column in _COLUMNS if width >= column.from_width]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    taken = sum(len(column.heading) + 2 for column in columns)
    room = max(8, min(_LONGEST_NAME, width - taken - 2))
    table.add_column("family", overflow="ellipsis", no_wrap=True, max_width=room)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    families = sorted(state.families.values(), key=lambda family: -family.share)
    # the family at work is always in view
    current = state.last.family if state.last else None
    shown = families[:rows]
    if current not in {family.name for family in shown} and len(families) > rows:
        shown = [*shown[:-1], *(f for f in families[rows:] if f.name == current)]
    for family in shown:
        # Text, because a name with brackets is no markup
        cells = [Text(column.cell(family, elapsed_s)) for column in columns]
        table.add_row(Text(family.name), *cells, style="bold" if family.name == current else "")
    if len(families) <= len(shown):
        return table
    hidden = format_count(len(families) - len(shown), "smaller family", "smaller families")
    return Group(table, _line((f"and {hidden}", "dim")))


def _changed(family: FamilyState, elapsed_s: float) -> str:
    if family.improved_at_s is None:
        return "-"
    return format_duration(round(max(0.0, elapsed_s - family.improved_at_s))) + " ago"


@dataclass(frozen=True)
class _Column:
    """A column of the table, shown on terminals that are wide enough for it."""

    heading: str
    from_width: int
    cell: Callable[[FamilyState, float], str]


_COLUMNS = (
    _Column("subgraphs", 56, lambda family, _: f"{family.covered}/{family.members}"),
    _Column("trials", 32, lambda family, _: str(family.trials)),
    _Column("share", 24, lambda family, _: format_percent(family.share)),
    _Column("accuracy", 46, lambda family, _: format_percent(family.accuracy)),
    _Column("last change", 70, _changed),
)
