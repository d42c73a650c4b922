"""Latency over time of several runs, and who reached whose final latency when."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any


@dataclass(frozen=True)
class Point:
    """The estimated model latency from a moment on; None while a subgraph has no schedule."""

    elapsed_s: float
    trials: int
    estimated_us: float | None


def read_curve(history: Path) -> list[Point]:
    """The curve in a run's ``history.csv``."""
    with history.open(newline="") as file:
        return [
            Point(
                float(row["elapsed_s"]),
                int(row["trials"]),
                float(row["estimated_model_us"]) if row["estimated_model_us"] else None,
            )
            for row in csv.DictReader(file)
        ]


def first_reaching(curve: list[Point], latency_us: float) -> Point | None:
    """The first point at or below a latency, None if there is none."""
    reached = (p for p in curve if p.estimated_us is not None and p.estimated_us <= latency_us)
    return next(reached, None)


def final_us(curve: list[Point]) -> float | None:
    """The lowest estimated latency of a run; None if it never had one."""
    return min((p.estimated_us for p in curve if p.estimated_us is not None), default=None)


def reach(runs: list[dict[str, Any]], curves: dict[str, list[Point]]) -> list[dict[str, Any]]:
    """For each ordered pair of tuners: time and trials of one to the other's final latency.

    Rounds are paired by number. A tuner whose run had no time for its first pass over all
    subgraphs has no final latency: nobody is said to have reached it, and it reached nobody's.
    Time and trial ratios are the other's over this one's, geometric means over the rounds in which
    both figures exist.
    """
    tuners = list(dict.fromkeys(run["tuner"] for run in runs))
    rows = []
    for one in tuners:
        for other in tuners:
            if one == other:
                continue
            rows.append(_pair(one, other, runs, curves))
    return rows


def _pair(
    one: str, other: str, runs: list[dict[str, Any]], curves: dict[str, list[Point]]
) -> dict[str, Any]:
    times, time_ratios, trial_ratios, possible = [], [], [], 0
    for run in runs:
        if run["tuner"] != one:
            continue
        mine = curves[run["folder"]]
        theirs_run = next(r for r in runs if r["tuner"] == other and r["round"] == run["round"])
        theirs = curves[theirs_run["folder"]]
        goal = final_us(theirs)
        if goal is None:
            continue
        possible += 1
        point, theirs_point = first_reaching(mine, goal), first_reaching(theirs, goal)
        if point is None or theirs_point is None:
            continue
        times.append(point.elapsed_s)
        time_ratios.append(theirs_point.elapsed_s / max(point.elapsed_s, 1e-9))
        trial_ratios.append(theirs_point.trials / max(point.trials, 1))
    return {
        "tuner": one,
        "reaches": other,
        "rounds": possible,
        "reached": len(times),
        "time_s": geometric_mean(times) if times else None,
        "time_ratio": geometric_mean(time_ratios) if time_ratios else None,
        "trial_ratio": geometric_mean(trial_ratios) if trial_ratios else None,
    }


def plot_curves(curves: dict[str, list[tuple[str, list[Point]]]], title: str, path: Path) -> None:
    """Draws estimated latency over time, a colour a tuner, a line a round, to an image file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, (tuner, rounds) in enumerate(curves.items()):
        for i, (_, curve) in enumerate(rounds):
            known = [(p.elapsed_s, p.estimated_us / 1e3) for p in curve if p.estimated_us]
            label = tuner if i == 0 else None
            if known:
                xs, ys = zip(*known, strict=True)
                axes.step(xs, ys, where="post", color=f"C{number}", label=label, alpha=0.8)
            else:
                unfinished = f"{tuner} (first pass not finished)"
                axes.plot([], [], color=f"C{number}", label=unfinished if i == 0 else None)
    axes.set(xlabel="wall-clock seconds", ylabel="estimated latency [ms]", title=title)
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)
