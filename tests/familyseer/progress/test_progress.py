"""What a run shows: the plain lines, the live display, and who gets which."""

from __future__ import annotations

import io
import re

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
        console.print(render(state, elapsed_s, height))
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
    assert [line for line in lines if line.endswith(" loading")] == ["[    0s] loading"]
    assert "squeezenet on llvm skylake, 8 cores: 3 subgraphs in 2 families, budget 10m" in lines[1]
    rounds = [line for line in lines if "trials" in line]
    assert len(rounds) == 3
    assert rounds[0].startswith("[    0s] 16 trials, 1 of 3 subgraphs measured")
    assert [line[:8] for line in rounds[1:]] == ["[    5s]", "[   10s]"]


def test_plain_does_not_lose_the_last_round(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, started_at=1000.0, pause_s=5.0)
    progress.on_round(event(trials=16, estimated_model_us=300.0, covered=3))
    progress.on_round(event(trials=32, estimated_model_us=200.0, covered=3, build_errors=2))
    assert "32 trials" not in stream.getvalue()
    progress.on_end({})
    progress.close()
    assert stream.getvalue().count("32 trials (2 failed)") == 1
    assert "model 200 us (1.50x since the first pass)" in stream.getvalue()


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
    assert shown(state, 3.2).strip() == "untuned, 3s"


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
    assert "model 145 ms, 2.00x since the first pass" in text
    assert "trials 32" in text
    assert re.search(r"conv2d-3x3 +1/2 +32 +60% +81% +35s ago", text)
    assert re.search(r"pool +0/1 +0 +30% +- +-", text)


def test_display_fits_eighty_columns_and_the_height_of_the_terminal() -> None:
    families = tuple(FamilyInfo(f"{'conv2d' * 20}-{i}", ("a",), 0.5 / (i + 1)) for i in range(99))
    state = RunState()
    state.start(RunInfo("m" * 200, "t" * 200, 1e6, 10**6, families))
    state.phase = "first pass"
    state.add(event(family=families[80].name, trials=10**6, build_errors=10**5))
    lines = shown(state, 1e5, width=80, height=24).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 24
    assert "smaller families" in lines[-1]


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
    assert type(make_observer(quiet, json, stream)) is kind
