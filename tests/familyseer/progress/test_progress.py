"""What a run shows: the plain lines, the live display, and who gets which."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator

import pytest
from rich.console import Console

from familyseer.progress import (
    FamilyInfo,
    Observer,
    PlainProgress,
    QuietProgress,
    RoundEvent,
    RunInfo,
    make_observer,
)
from familyseer.progress._live import RichProgress, render
from familyseer.progress._state import RunState

INFO = RunInfo(
    model="squeezenet",
    target="llvm skylake, 8 cores",
    budget_s=600.0,
    trials=None,
    families=(
        FamilyInfo("conv2d-3x3", ("conv_a", "conv_b"), 0.7),
        FamilyInfo("pool", ("pool",), 0.3),
    ),
)


def event(**changes: object) -> RoundEvent:
    values: dict[str, object] = {
        "elapsed_s": 10.0,
        "trials": 16,
        "build_errors": 0,
        "run_errors": 0,
        "subgraph": "conv_a",
        "family": "conv2d-3x3",
        "kind": "first",
        "candidates": 16,
        "best_us": 120.0,
        "estimated_model_us": None,
        "covered": 1,
        "subgraphs": 3,
    }
    return RoundEvent(**{**values, **changes})  # type: ignore[arg-type]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands in for the time module of an observer."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("familyseer.progress._plain.time", fake)
    return fake


def shown(state: RunState, elapsed_s: float = 125.0, width: int = 80, height: int = 24) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(render(state, elapsed_s, width, height))
    return capture.get()


def test_state_counts_trials_and_coverage_of_each_family() -> None:
    state = RunState()
    state.start(INFO)
    state.add(event())
    state.add(event(trials=32, subgraph="conv_b", best_us=None, run_errors=16))
    state.add(event(trials=40, candidates=8, subgraph="conv_b", best_us=80.0, run_errors=16))
    family = state.families["conv2d-3x3"]
    assert (family.trials, family.covered, family.members) == (40, 2, 2)
    assert state.families["pool"].trials == 0
    assert (state.trials, state.failed) == (40, 16)


def test_state_dates_the_last_improvement_and_not_the_last_round() -> None:
    state = RunState()
    state.start(INFO)
    state.add(event(elapsed_s=10.0, best_us=120.0))
    state.add(event(elapsed_s=20.0, best_us=100.0))
    state.add(event(elapsed_s=30.0, best_us=100.0))
    assert state.families["conv2d-3x3"].improved_at_s == 20.0


def test_state_keeps_an_accuracy_that_a_later_round_does_not_tell() -> None:
    state = RunState()
    state.start(INFO)
    state.add(event(family_accuracy=0.8, family_share=0.5))
    state.add(event(family_accuracy=None, family_share=None))
    family = state.families["conv2d-3x3"]
    assert (family.accuracy, family.share) == (0.8, 0.5)


def test_speedup_compares_with_the_first_complete_estimate() -> None:
    state = RunState()
    state.start(INFO)
    state.add(event(estimated_model_us=None))
    assert state.speedup is None
    state.add(event(estimated_model_us=300.0))
    state.add(event(estimated_model_us=200.0))
    assert state.speedup == pytest.approx(1.5)


def test_plain_says_every_phase_once_and_rounds_only_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, started_at=1000.0, pause_s=5.0)
    progress.on_phase("loading")
    progress.on_phase("loading")
    progress.on_start(INFO)
    progress.on_phase("first pass")
    for second in range(12):
        clock.now = 1000.0 + second
        progress.on_round(event(trials=16 * (second + 1)))
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "loading" in line] == ["[    0s] loading the model"]
    assert "squeezenet on llvm skylake, 8 cores: 3 subgraphs in 2 families, budget 10m" in lines[1]
    rounds = [line for line in lines if "trials" in line]
    assert len(rounds) == 3
    assert rounds[0] == (
        "[    0s] 10m left, 16 trials, 1 of 3 subgraphs measured; conv2d-3x3: conv_a 120 us (first)"
    )
    assert [line[:8] for line in rounds[1:]] == ["[    5s]", "[   10s]"]


def test_plain_says_less_and_less_often(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, started_at=1000.0)
    progress.on_start(INFO)
    for second in range(3600):
        clock.now = 1000.0 + second
        progress.on_round(event(trials=second))
    lines = stream.getvalue().splitlines()
    assert 60 < len(lines) < 150
    assert lines[-1].startswith(("[59m", "[ 59m"))


def test_plain_does_not_lose_the_last_round(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, started_at=1000.0, pause_s=5.0)
    progress.on_round(event(trials=16, estimated_model_us=300.0, covered=3))
    progress.on_round(event(trials=32, estimated_model_us=200.0, covered=3, build_errors=2))
    assert "32 trials" not in stream.getvalue()
    progress.on_end({})
    progress.close()
    assert stream.getvalue().count("32 trials (2 failed)") == 1
    assert "model about 200 us, 1.50x since the first pass" in stream.getvalue()


def test_plain_keeps_a_message_on_one_line() -> None:
    stream = io.StringIO()
    PlainProgress(stream).on_message("two\nlines\tand a tab")
    assert re.fullmatch(r"\[ +0s\] two lines and a tab\n", stream.getvalue())


def test_a_run_does_not_fail_when_nobody_can_read_any_more() -> None:
    class Gone(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            Gone.writes += 1
            raise BrokenPipeError

    with PlainProgress(Gone()) as progress:
        progress.on_phase("loading")
        progress.on_start(INFO)
        progress.on_round(event())
        progress.on_end({})
    assert Gone.writes == 1


def test_display_before_the_families_are_known_is_one_line() -> None:
    state = RunState()
    state.phase = "untuned"
    assert shown(state, 3.2).strip() == "timing the untuned library, 3s"


def test_display_shows_time_latency_trials_and_a_line_a_family() -> None:
    state = RunState()
    state.start(INFO)
    state.phase = "tuning"
    state.add(event(estimated_model_us=290_000.0, covered=3))
    state.add(
        event(
            elapsed_s=90.0,
            trials=32,
            best_us=100.0,
            estimated_model_us=145_000.0,
            covered=3,
            family_accuracy=0.81,
            family_share=0.6,
        )
    )
    text = shown(state, 125.0)
    assert "2m05s used, 7m55s left" in text
    assert "tuning" in text
    assert "model about 145 ms, 2.00x since the first pass" in text
    assert "trials 32" in text
    assert re.search(r"conv2d-3x3 +1/2 +32 +60% +81% +35s ago", text)
    assert re.search(r"pool +0/1 +0 +30% +- +-", text)


def full_state() -> RunState:
    """As much as a display can be given: long names, many families, large numbers."""
    families = tuple(FamilyInfo(f"{'conv2d' * 20}-{i}", ("a",), 0.5 / (i + 1)) for i in range(99))
    state = RunState()
    state.start(RunInfo("m" * 200, "t" * 200, 1e6, 10**6, families, untuned_us=1e9))
    state.phase = "untuned"
    numbers = {"trials": 10**6, "build_errors": 10**5, "estimated_model_us": 1e3}
    state.add(event(family=families[80].name, why="because " * 30, **numbers))
    return state


@pytest.mark.parametrize("width", [200, 80, 64, 40, 20, 8])
@pytest.mark.parametrize("height", [50, 24, 12, 6, 3])
def test_display_fits_the_terminal_whatever_its_size(width: int, height: int) -> None:
    lines = shown(full_state(), 1e5, width=width, height=height).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < height


def test_display_says_how_many_families_it_hides() -> None:
    assert "smaller families" in shown(full_state(), 1e5).splitlines()[-1]


def test_display_compares_with_the_untuned_library_and_says_why_it_was_whose_turn() -> None:
    state = RunState()
    state.start(RunInfo("m", "t", 600.0, None, INFO.families, untuned_us=280_000.0))
    state.add(event(estimated_model_us=140_000.0, covered=3, why="38% of the model's time"))
    text = shown(state)
    assert "model about 140 ms, 2.00x faster than untuned" in text
    assert "conv_a 120 us: 38% of the model's time" in text


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    state = RunState()
    state.start(RunInfo("m", "t", 600.0, None, (FamilyInfo("[red]conv[/red]", ("a",), 1.0),)))
    assert "[red]conv[/red]" in shown(state)


def test_a_budget_that_an_interrupted_run_used_up_is_no_fault() -> None:
    state = RunState()
    state.start(RunInfo("m", "t", 0.0, None, INFO.families))
    assert "0s left" in shown(state)
    state.start(RunInfo("m", "t", -5.0, None, INFO.families))
    assert "0s left" in shown(state)


def test_display_always_shows_the_family_at_work() -> None:
    families = tuple(FamilyInfo(f"family-{i}", ("a",), 0.5 / (i + 1)) for i in range(99))
    state = RunState()
    state.start(RunInfo("m", "t", 600.0, None, families))
    state.add(event(family="family-80"))
    assert "family-80" in shown(state)


def test_the_time_left_is_never_negative() -> None:
    state = RunState()
    state.start(INFO)
    assert "10m07s used, 0s left" in shown(state, 607.0)


def test_live_display_gives_the_terminal_back_when_the_run_raises() -> None:
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=80, height=24)
    with pytest.raises(RuntimeError), RichProgress(console=console) as progress:  # noqa: PT012
        progress.on_start(INFO)
        progress.on_round(event())
        progress.on_message("a worker was replaced")
        raise RuntimeError
    written = stream.getvalue()
    hidden, visible = "\x1b[?25l", "\x1b[?25h"
    assert written.count(hidden) == written.count(visible) == 1
    assert written.rindex(visible) > written.rindex(hidden)
    assert "a worker was replaced" in written


def test_live_display_is_calm() -> None:
    assert RichProgress(Terminal())._live.refresh_per_second <= 4


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """Both ends of a real terminal: what was written to it, and the stream to write to."""
    outer, inner = pty.openpty()
    with open(inner, "w", encoding="utf-8") as stream:
        yield outer, stream
    os.close(outer)


def resize(stream: io.TextIOWrapper, columns: int, lines: int) -> None:
    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def written(outer: int) -> str:
    os.set_blocking(outer, False)
    parts = []
    try:
        while part := os.read(outer, 1 << 16):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode()


def test_a_display_follows_the_size_of_its_own_terminal(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, stream = terminal
    monkeypatch.setenv("TERM", "xterm")
    for name in ("CI", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    resize(stream, 100, 30)
    with make_observer(False, False, stream) as progress:
        assert isinstance(progress, RichProgress)
        progress.on_start(INFO)
        progress.on_round(event(why="it promises the most of all the subgraphs that there are"))
        for columns in (100, 40):
            resize(stream, columns, 30)
            written(outer)
            progress._live.refresh()
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(outer))
            assert "conv_a" in text
            assert max(map(len, re.split(r"[\r\n]+", text))) <= columns
            assert ("last change" in text) == (columns == 100)


@pytest.mark.parametrize("variable", [{"CI": "true"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_that_is_a_log_gets_lines_without_control_characters(
    terminal: tuple[int, io.TextIOWrapper],
    monkeypatch: pytest.MonkeyPatch,
    variable: dict[str, str],
) -> None:
    outer, stream = terminal
    for name, value in {"CI": "", "TERM": "xterm", **variable}.items():
        monkeypatch.setenv(name, value)
    with make_observer(False, False, stream) as progress:
        progress.on_phase("loading")
        progress.on_start(INFO)
        progress.on_round(event())
        progress.on_end({})
    text = written(outer)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_no_color_means_no_color(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, stream = terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    with make_observer(False, False, stream) as progress:
        progress.on_start(INFO)
        progress.on_round(event())
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", written(outer))


@pytest.mark.parametrize(
    ("quiet", "json", "stream", "term", "kind"),
    [
        (True, False, Terminal(), "xterm", QuietProgress),
        (True, True, io.StringIO(), "xterm", QuietProgress),
        (False, False, Terminal(), "xterm", RichProgress),
        (False, False, Terminal(), "dumb", PlainProgress),
        (False, True, Terminal(), "xterm", PlainProgress),
        (False, False, io.StringIO(), "xterm", PlainProgress),
    ],
)
def test_who_watches_decides_what_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    quiet: bool,
    json: bool,
    stream: io.StringIO,
    term: str,
    kind: type[Observer],
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("CI", raising=False)
    assert type(make_observer(quiet, json, stream)) is kind
