"""Progress as a live display on a terminal: time, latency, trials, and a line a family."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from familyseer.duration import format_duration
from familyseer.progress._base import Observer, RoundEvent, RunInfo
from familyseer.progress._state import FamilyState, RunState
from familyseer.units import format_count, format_latency, format_percent, format_ratio

_REFRESHES_PER_SECOND = 2
_LINES_AROUND_FAMILIES = 9


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
        with self._lock:
            elapsed_s = time.monotonic() - self._started_at
            return render(self._state, elapsed_s, self._console.height)


def render(state: RunState, elapsed_s: float, height: int) -> RenderableType:
    """The display for a state, `elapsed_s` seconds into the run, on `height` lines."""
    info = state.info
    if info is None:
        return Text(f"{state.phase or 'starting'}, {format_duration(round(elapsed_s))}")
    parts: list[RenderableType] = [
        _line((info.model, "bold"), ("  ", ""), (info.target, "dim")),
        _time_line(info, state, elapsed_s),
        _latency_line(state),
        Text(""),
        _family_table(state, elapsed_s, max(3, height - _LINES_AROUND_FAMILIES)),
    ]
    return Group(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for content, style in parts:
        text.append(content, style)
    return text


def _time_line(info: RunInfo, state: RunState, elapsed_s: float) -> RenderableType:
    used = format_duration(round(elapsed_s))
    if info.budget_s is not None:
        left = format_duration(round(max(0.0, info.budget_s - elapsed_s)))
        done, text = elapsed_s / info.budget_s, f"{used} used, {left} left"
    elif info.trials:
        done, text = state.trials / info.trials, f"{used} used"
    else:
        done, text = 0.0, f"{used} used"
    grid = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(1.0, min(1.0, done), width=24, complete_style="cyan", finished_style="cyan")
    grid.add_row(bar, Text(text), Text(state.phase, style="dim"))
    return grid


def _latency_line(state: RunState) -> Text:
    event, info = state.last, state.info
    trials = f"{state.trials}"
    if info is not None and info.trials is not None:
        trials += f" of {info.trials}"
    failed = f" ({state.failed} failed)" if state.failed else ""
    if event is None or event.estimated_model_us is None:
        covered, total = (event.covered, event.subgraphs) if event else (0, _subgraphs(info))
        model = f"{covered} of {total} subgraphs measured"
    else:
        model = f"model {format_latency(event.estimated_model_us)}"
        if state.speedup is not None and state.speedup >= 1.005:
            model += f", {format_ratio(state.speedup)} since the first pass"
    return _line((model, "bold"), (f"   trials {trials}{failed}", ""))


def _subgraphs(info: RunInfo | None) -> int:
    return info.subgraphs if info is not None else 0


def _family_table(state: RunState, elapsed_s: float, rows: int) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("family", overflow="ellipsis", no_wrap=True, max_width=28)
    for heading in ("subgraphs", "trials", "share", "accuracy", "last change"):
        table.add_column(heading, justify="right", no_wrap=True)
    families = sorted(state.families.values(), key=lambda family: -family.share)
    # the family at work is always in view
    current = state.last.family if state.last else None
    shown = families[:rows]
    if current not in {family.name for family in shown} and len(families) > rows:
        shown = [*shown[:-1], *(f for f in families[rows:] if f.name == current)]
    for family in shown:
        table.add_row(*_cells(family, elapsed_s), style="bold" if family.name == current else "")
    if len(families) <= len(shown):
        return table
    hidden = format_count(len(families) - len(shown), "smaller family", "smaller families")
    return Group(table, Text(f"and {hidden}", style="dim"))


def _cells(family: FamilyState, elapsed_s: float) -> tuple[str, ...]:
    if family.improved_at_s is None:
        changed = "-"
    else:
        changed = format_duration(round(elapsed_s - family.improved_at_s)) + " ago"
    return (
        family.name,
        f"{family.covered}/{family.members}",
        str(family.trials),
        format_percent(family.share),
        format_percent(family.accuracy),
        changed,
    )
