"""Draws and tabulates what `compare_budgets.py` and `latency_over_time.py` measured.

    python scripts/plot_budgets.py benchmarks/results/unseen-*.json benchmarks/results/over-time-*

Each result file becomes ``docs/images/NAME.svg`` and a Markdown table on standard output. Of a
comparison, the plot is estimated latency over time with a line a tuner, and the table's last two
columns tell when a tuner had reached the final estimate of the yardstick: stock MetaSchedule where
it ran, else its search with this project's builder and runner. Stock's estimate is of kernels timed
in warm caches, which flatters it. Of a run over time, both are of libraries timed end to end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
# told apart without colour too
STYLES = {
    "familyseer": {"color": "#0b6e4f", "linestyle": "-", "label": "FamilySeer"},
    "metaschedule": {"color": "#7a7a7a", "linestyle": "-", "label": "stock MetaSchedule"},
    "metaschedule-warm": {
        "color": "#c2571a",
        "linestyle": "--",
        "label": "MetaSchedule's search, our builder and runner",
    },
}


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(results: tuple[Path, ...]) -> None:
    """Draw RESULTS."""
    IMAGES.mkdir(exist_ok=True)
    # no date and no random ids, so that the same result gives the same file
    plt.rcParams["svg.hashsalt"] = "familyseer"
    for path in results:
        result = json.loads(path.read_text())
        drawn = IMAGES / f"{path.stem}.svg"
        over_time = "moments" in result
        figure = draw_over_time(result) if over_time else draw(result)
        figure.savefig(drawn, metadata={"Date": None})
        click.echo(f"written: {drawn}\n")
        click.echo("\n".join(table_over_time(result) if over_time else table(result)) + "\n")


def table(result: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table of one result."""
    names = [run["tuner"] for run in result["runs"]]
    yardstick = "metaschedule" if "metaschedule" in names else "metaschedule-warm"
    finals = [r["estimated_us"] for r in result["runs"] if r["tuner"] == yardstick]
    final_us = min((us for us in finals if us is not None), default=0.0)
    lines = [
        "| tuner | budget | candidates | all subgraphs after | end to end | faster than untuned "
        "| reached the yardstick after | with candidates |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in result["runs"]:
        reached = next((p for p in run["curve"] if p[2] is not None and p[2] <= final_us), None)
        label = STYLES.get(run["tuner"], {"label": run["tuner"]})["label"]
        covered = "never" if run["covered_at_s"] is None else f"{run['covered_at_s']:.0f} s"
        after = ("not", "") if reached is None else (f"{reached[0]:.0f} s", str(reached[1]))
        lines.append(
            f"| {label} | {run['budget_s'] / 60:g} min | {run['trials']} | {covered} "
            f"| {run['tuned_us'] / 1000:.2f} ms | {run['speedup']:.1f}x | {after[0]} | {after[1]} |"
        )
    return lines


def table_over_time(result: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table of one run's moments, and of what was timed beside them."""
    lines = ["| library | candidates | end to end |", "| --- | --- | --- |"]
    for one in result["moments"]:
        minutes, latency_ms = one["seconds"] / 60, one["latency_us"] / 1e3
        lines.append(f"| after {minutes:g} min | {one['trials']} | {latency_ms:.1f} ms |")
    for label, latency_us in result["beside_us"].items():
        lines.append(f"| {label} | | {latency_us / 1e3:.1f} ms |")
    return lines


def draw_over_time(result: dict[str, Any]) -> Any:
    """A figure of one run's moments, with a line across for what was timed beside them."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    minutes = [one["seconds"] / 60 for one in result["moments"]]
    latency_ms = [one["latency_us"] / 1e3 for one in result["moments"]]
    style: dict[str, Any] = dict(STYLES["familyseer"])
    axes.plot(minutes, latency_ms, marker="o", markersize=4, **style)
    dashes = ["--", "-.", ":"]
    for number, (label, latency_us) in enumerate(result["beside_us"].items()):
        dash = dashes[number % len(dashes)]
        axes.axhline(latency_us / 1e3, color="#7a7a7a", linestyle=dash, label=label)
    _finish_axes(axes, result)
    axes.set_xlabel("minutes since the start; the run's end comes on top")
    axes.set_ylabel("latency of the whole model, ms")
    return figure


def draw(result: dict[str, Any]) -> Any:
    """A figure of one result."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    labelled: set[str] = set()
    for run in result["runs"]:
        points = [(s / 60, us / 1000) for s, _, us in run["curve"] if us is not None]
        if not points:
            continue
        style = dict(STYLES.get(run["tuner"], {"label": run["tuner"]}))
        if run["tuner"] in labelled:
            style.pop("label")
        labelled.add(run["tuner"])
        axes.step(*zip(*points, strict=True), where="post", **style)
        axes.plot(*points[-1], "o", markersize=4, color=style.get("color"))
    _finish_axes(axes, result)
    axes.set_xlabel("minutes since the start, everything included")
    axes.set_ylabel("estimated latency, ms")
    return figure


def _finish_axes(axes: Any, result: dict[str, Any]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{result['model']} on {result['machine']['physical_cores']} cores")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
