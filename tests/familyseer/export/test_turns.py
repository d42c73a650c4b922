"""Libraries timed in turns: what stands before one in its turn must not show in its time."""

from __future__ import annotations

from typing import Any

import pytest

from familyseer.export import _jobs


class Fake:
    """A library that takes as long as its name says, in seconds, on a clock of its own."""

    ran: list[str]

    def __init__(self, path: str, device_type: str) -> None:
        self.path = path

    def tensors(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def time_once(self, tensors: list[Any]) -> float:
        Fake.ran.append(self.path)
        return float(self.path)


def ran(monkeypatch: pytest.MonkeyPatch, *paths: str, time_s: float = 1e9) -> list[str]:
    Fake.ran = []
    monkeypatch.setattr(_jobs, "_Library", Fake)
    times = _jobs.time_libraries({path: path for path in paths}, "cpu", [], 2, time_s)
    assert {name: len(found) for name, found in times.items()} == {
        path: 1 if float(path) > time_s else 2 for path in paths
    }
    return Fake.ran[len(paths) :]


def test_all_but_slow_ones_run_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, "2", "3", "90") == ["2", "2", "3", "3", "90"] * 2
    assert ran(monkeypatch, "90", "2") == ["90", "2", "2"] * 2


def test_one_by_itself_is_what_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, "2") == ["2", "2"]


def test_one_that_takes_too_long_is_out_of_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, "2", "3", "900", time_s=100.0)[-4:] == ["2", "2", "3", "3"]
