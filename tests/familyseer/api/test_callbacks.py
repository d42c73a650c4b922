"""Callbacks that end a run, told of rounds that a run could have."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from familyseer import Callback, StopAt, StopTuning, StopWhenFlat
from familyseer.api._callbacks import Watchers
from familyseer.errors import UserError
from familyseer.progress import RoundEvent, RunInfo
from familyseer.search import Clock

INFO = RunInfo("m", "cpu", 60.0, None, (), untuned_us=1000.0)


def round_at(elapsed_s: float, estimate_us: float | None) -> RoundEvent:
    return RoundEvent(
        elapsed_s=elapsed_s,
        trials=1,
        build_errors=0,
        run_errors=0,
        subgraph="s",
        family="f",
        kind="steepest",
        candidates=1,
        best_us=estimate_us,
        estimated_model_us=estimate_us,
        covered=1,
        subgraphs=1,
    )


def rounds_until_it_stops(callback: Callback, rounds: list[tuple[float, float | None]]) -> int:
    """The round, from 1, with which a callback ends the run; one more than there are if none."""
    callback.on_start(INFO)
    for count, (elapsed_s, estimate_us) in enumerate(rounds, start=1):
        try:
            callback.on_round(round_at(elapsed_s, estimate_us))
        except StopTuning:
            return count
    return len(rounds) + 1


FALLING = [(1.0, None), (2.0, 900.0), (3.0, 700.0), (4.0, 699.0), (5.0, 698.0), (9.0, 697.0)]


@pytest.mark.parametrize(
    ("limits", "stops_at"),
    [
        ({"rounds": 2}, 5),
        ({"rounds": 9}, 7),
        ({"seconds": 6.0}, 6),
        ({"seconds": 1.0, "rounds": 9}, 4),
        ({"seconds": 1.0, "gain": 0.0}, 7),
    ],
)
def test_a_flat_run_is_ended(limits: dict[str, Any], stops_at: int) -> None:
    callback = StopWhenFlat(**limits)
    assert rounds_until_it_stops(callback, FALLING) == stops_at
    # another run begins anew
    assert rounds_until_it_stops(callback, FALLING) == stops_at


@pytest.mark.parametrize(
    ("limits", "stops_at"),
    [
        ({"latency": 700e-6}, 3),
        ({"speedup": 1.4}, 3),
        ({"speedup": 1.1}, 2),
        ({"speedup": 1.5}, 7),
        ({"latency": 698.5e-6, "speedup": 3.0}, 5),
    ],
)
def test_a_fast_enough_model_ends_the_run(limits: dict[str, Any], stops_at: int) -> None:
    assert rounds_until_it_stops(StopAt(**limits), FALLING) == stops_at


def test_without_an_untuned_latency_there_is_no_speedup() -> None:
    callback = StopAt(speedup=1.1)
    callback.on_start(RunInfo("m", "cpu", 60.0, None, ()))
    callback.on_round(round_at(1.0, 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopWhenFlat(), "StopWhenFlat: expected seconds or rounds"),
        (lambda: StopWhenFlat(seconds=0), "StopWhenFlat: seconds is 0: expected a number above 0"),
        (lambda: StopWhenFlat(rounds=3, gain=1), "StopWhenFlat: gain is 1: expected 0 or more"),
        (lambda: StopAt(), "StopAt: expected a latency or a speedup"),
        (lambda: StopAt(latency=float("nan")), "StopAt: latency is nan: expected a number above 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


class Telling(Callback):
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.heard: list[str] = []

    def on_phase(self, name: str) -> None:
        self.heard.append(name)
        if self.error is not None:
            raise self.error


def test_all_are_told_when_one_of_them_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "familyseer")
    clock, first, second = Clock(60.0), Telling(StopTuning("that will do")), Telling()
    Watchers([first, second], clock).on_phase("tuning")
    assert first.heard == second.heard == ["tuning"]
    assert clock.stopped
    assert "a callback ends the run: that will do" in caplog.text


def test_another_exception_is_not_swallowed() -> None:
    clock = Clock(60.0)
    with pytest.raises(ZeroDivisionError):
        Watchers([Telling(ZeroDivisionError())], clock).on_phase("tuning")
    assert not clock.stopped


def test_the_log_is_told_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "familyseer")
    watchers = Watchers([], Clock(60.0))
    watchers.on_phase("loading")
    watchers.on_start(INFO)
    watchers.on_round(round_at(2.0, 500.0))
    watchers.on_message("something to read")
    watchers.on_end({"fell_back": {"conv": "a wrong schedule", "pool": "a wrong schedule"}})
    lines = [record.getMessage() for record in caplog.records]
    assert any("loading" in line for line in lines)
    assert any("m on cpu" in line for line in lines)
    assert any("500 us" in line for line in lines)
    assert any("something to read" in line for line in lines)
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warned == ["2 subgraphs fell back: a wrong schedule (conv, pool)"]
    assert {record.name for record in caplog.records} == {"familyseer"}
