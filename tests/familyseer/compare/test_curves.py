"""Who reached what when, on curves that are written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from familyseer.compare import Point, final_us, first_reaching, reach, read_curve
from familyseer.compare._curves import plot_curves
from familyseer.run import HISTORY_COLUMNS

FAST = [Point(10, 50, None), Point(20, 100, 900.0), Point(40, 200, 500.0), Point(80, 400, 300.0)]
SLOW = [Point(60, 64, None), Point(120, 128, 800.0), Point(240, 256, 500.0)]
UNFINISHED = [Point(100, 64, None), Point(240, 256, None)]


def runs(*tuners: str) -> list[dict[str, Any]]:
    return [{"tuner": t, "round": 0, "folder": t} for t in tuners]


def test_a_curve_is_read_from_a_history(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(",".join(HISTORY_COLUMNS) + "\n1.5,8,conv,conv2d,120.0,\n3.0,16,conv,,100,90\n")
    assert read_curve(path) == [Point(1.5, 8, None), Point(3.0, 16, 90.0)]


def test_the_first_point_at_or_below_counts() -> None:
    assert first_reaching(FAST, 500.0) == FAST[2]
    assert first_reaching(FAST, 299.0) is None
    assert final_us(FAST) == 300.0
    assert final_us(UNFINISHED) is None


def test_the_faster_tuner_reaches_the_slower_ones_end_in_less_time_and_trials() -> None:
    rows = reach(runs("ours", "stock"), {"ours": FAST, "stock": SLOW})
    ours = next(r for r in rows if r["tuner"] == "ours")
    assert (ours["reached"], ours["time_s"]) == (1, 40)
    assert ours["time_ratio"] == pytest.approx(240 / 40)
    assert ours["trial_ratio"] == pytest.approx(256 / 200)
    stock = next(r for r in rows if r["tuner"] == "stock")
    assert (stock["reached"], stock["time_s"], stock["time_ratio"]) == (0, None, None)


def test_a_run_without_a_finished_first_pass_is_never_beaten_nor_a_winner() -> None:
    rows = reach(runs("ours", "stock"), {"ours": FAST, "stock": UNFINISHED})
    ours = next(r for r in rows if r["tuner"] == "ours")
    assert (ours["rounds"], ours["reached"], ours["time_ratio"]) == (0, 0, None)
    stock = next(r for r in rows if r["tuner"] == "stock")
    assert (stock["rounds"], stock["reached"]) == (1, 0)


def test_the_plot_is_drawn_even_of_an_unfinished_run(tmp_path: Path) -> None:
    path = tmp_path / "latency.png"
    plot_curves({"ours": [("a", FAST)], "stock": [("b", UNFINISHED)]}, "title", path)
    assert path.read_bytes().startswith(b"\x89PNG")
