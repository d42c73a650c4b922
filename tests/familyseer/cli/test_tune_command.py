"""``familyseer tune``: its options become a value, its result an ending. The driver is a fake."""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from familyseer.cli.main import main
from familyseer.errors import UserError
from familyseer.options import TuneOptions
from familyseer.progress import Observer, PlainProgress, QuietProgress
from familyseer.tactics import Tactics

SUMMARY = {
    "untuned_us": 282_000.0,
    "tuned_us": 121_000.0,
    "speedup": 282 / 121,
    "trials": 312,
    "build_errors": 3,
    "run_errors": 1,
    "elapsed_s": 598.0,
    "stopped_by": "budget",
    "fell_back": {},
}


class Driver:
    """Takes the place of the real one and remembers what it was asked."""

    def __init__(self) -> None:
        self.options: TuneOptions | None = None
        self.started_at = 0.0
        self.observer = Observer()
        self.summary: dict[str, Any] = dict(SUMMARY)
        self.act: Callable[[], None] = lambda: None

    def tune(
        self, options: TuneOptions, *, started_at: float, observer: Observer
    ) -> dict[str, Any]:
        self.options, self.started_at, self.observer = options, started_at, observer
        self.act()
        return self.summary

    @property
    def asked(self) -> TuneOptions:
        assert self.options is not None
        return self.options


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    fake = Driver()
    module = types.ModuleType("familyseer.run")
    module.tune = fake.tune  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "familyseer.run", module)
    return fake


def tune(*args: str) -> Result:
    return CliRunner().invoke(main, ["tune", "mlp", "-o", "out dir", *args])


def test_without_limits_the_budget_is_ten_minutes(driver: Driver) -> None:
    assert tune().exit_code == 0
    assert driver.asked == TuneOptions(model="mlp", out=Path("out dir"), budget_s=600.0)


def test_trials_alone_mean_no_budget(driver: Driver) -> None:
    assert tune("--trials", "64").exit_code == 0
    assert (driver.asked.budget_s, driver.asked.trials) == (None, 64)


def test_every_option_reaches_the_driver(driver: Driver) -> None:
    result = tune(
        *("--target", '{"kind": "llvm"}', "--budget", "1h30m", "--trials", "9"),
        *("--families", "sequence", "--seed", "7", "--workers", "3", "--resume"),
        *("--input-shape", "x=1,784", "--input-shape", "mask=1"),
        *("--without", "seeds", "--without", "cascade"),
    )
    assert result.exit_code == 0, result.output
    assert driver.asked == TuneOptions(
        model="mlp",
        out=Path("out dir"),
        target='{"kind": "llvm"}',
        budget_s=5400.0,
        trials=9,
        families="sequence",
        seed=7,
        workers=3,
        resume=True,
        input_shapes={"x": (1, 784), "mask": (1,)},
        tactics=Tactics(seeds=False, cascade=False),
    )


def test_time_counts_from_before_the_command_ran(driver: Driver) -> None:
    before = time.monotonic()
    tune()
    assert driver.started_at <= before


def test_the_ending_tells_what_was_won_and_how_to_use_it(driver: Driver) -> None:
    result = tune()
    assert result.stdout.splitlines() == [
        "untuned  282 ms",
        "tuned    121 ms  (2.33x faster)",
        "trials   312 (4 failed)",
        "time     9m58s, ended by the budget",
        "library  out dir/model.so",
        "",
        "Run it:      familyseer run 'out dir' -i in.npz -o out.npz",
        "Measure it:  familyseer bench 'out dir'",
    ]


def test_the_ending_of_a_run_that_measured_nothing(driver: Driver) -> None:
    driver.summary = {"untuned_us": None, "tuned_us": None, "speedup": None, "trials": 0}
    lines = tune().stdout.splitlines()
    assert lines[:4] == ["untuned  -", "tuned    -", "trials   0", "time     0s"]


def test_a_library_that_became_slower_is_called_slower(driver: Driver) -> None:
    driver.summary.update(tuned_us=564_000.0, speedup=0.5)
    assert "tuned    564 ms  (2.00x slower)" in tune().stdout


@pytest.mark.parametrize("extra", [[], ["--quiet"], ["--json"]])
def test_subgraphs_that_fell_back_are_warned_of_by_reason(driver: Driver, extra: list[str]) -> None:
    driver.summary["fell_back"] = {**dict.fromkeys("abcde", "no time"), "f": "wrong results"}
    result = tune(*extra)
    assert [line for line in result.stderr.splitlines() if "warning" in line] == [
        "familyseer: warning: 5 subgraphs fell back: no time (a, b, c and 2 more)",
        "familyseer: warning: 1 subgraph fell back: wrong results (f)",
    ]
    assert "warning" not in result.stdout


def test_json_is_the_summary_and_nothing_else(driver: Driver) -> None:
    driver.summary["max_rel_error"] = float("nan")
    driver.act = lambda: print("chatter of a library")
    result = tune("--json")
    assert json.loads(result.stdout) == {**SUMMARY, "max_rel_error": None}
    assert "chatter of a library" in result.stderr
    assert type(driver.observer) is PlainProgress


def test_quiet_prints_nothing(driver: Driver) -> None:
    result = tune("--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert type(driver.observer) is QuietProgress


def test_quiet_json_still_prints_the_summary(driver: Driver) -> None:
    result = tune("--quiet", "--json")
    assert json.loads(result.stdout)["trials"] == 312
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--budget", "soon"], "--budget: duration 'soon': expected"),
        (["--budget", "-5m"], "--budget: duration '-5m': expected"),
        (["--budget", "0"], "--budget: duration '0': expected"),
        (["--trials", "0"], "--trials"),
        (["--workers", "0"], "--workers"),
        (["--seed", "-1"], "--seed"),
        (["--families", "kin"], "--families"),
        (["--input-shape", "x"], "--input-shape x: expected"),
        (["--input-shape", "x=1", "--input-shape", "x=2"], "expected each input once"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(driver: Driver, args: list[str], named: str) -> None:
    result = tune(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("familyseer: ")
    assert result.stderr.count("\n") == 1
    assert named in result.stderr
    assert driver.options is None


def fail(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_unreadable_input_is_code_2(driver: Driver) -> None:
    driver.act = fail(UserError("m.onnx: not an ONNX model"))
    result = tune("--quiet")
    assert (result.exit_code, result.stderr) == (2, "familyseer: m.onnx: not an ONNX model\n")


def test_anything_else_is_code_1_and_names_the_way_to_the_traceback(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAMILYSEER_DEBUG", raising=False)
    driver.act = fail(RuntimeError("LLVM gave up\nat line 3"))
    result = tune("--quiet")
    assert result.exit_code == 1
    assert result.stderr == (
        "familyseer: RuntimeError: LLVM gave up (FAMILYSEER_DEBUG=1 shows the traceback)\n"
    )


def test_debug_shows_the_traceback(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAMILYSEER_DEBUG", "1")
    driver.act = fail(RuntimeError("LLVM gave up"))
    result = tune("--quiet")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "in act" in result.stderr


def test_an_interrupt_that_the_driver_does_not_take_is_code_1(driver: Driver) -> None:
    driver.act = fail(KeyboardInterrupt())
    result = tune("--quiet")
    assert result.exit_code == 1
    assert result.stderr.strip() == "familyseer: interrupted"


def test_the_observer_is_closed_when_the_run_raises(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(PlainProgress, "close", lambda self: closed.append(self))
    driver.act = fail(click.Abort())
    tune()
    assert len(closed) == 1
