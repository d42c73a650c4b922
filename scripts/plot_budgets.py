"""Draws and tabulates what `compare_budgets.py` measured.

    python scripts/plot_budgets.py benchmarks/results/unseen-*.json

Each result file becomes ``docs/images/NAME.svg``, estimated latency over time with a line a tuner,
and a Markdown table on standard output. Its last two columns tell when a tuner had reached the
final estimate of the yardstick: stock MetaSchedule where it ran, else its search with this
project's builder and runner.
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
        draw(result).savefig(drawn, metadata={"Date": None})
        click.echo(f"written: {drawn}\n")
        click.echo("\n".join(table(result)) + "\n")


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
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("minutes since the start, everything included")
    axes.set_ylabel("estimated latency, ms")
    axes.set_title(f"{result['model']} on {result['machine']['physical_cores']} cores")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    main()
