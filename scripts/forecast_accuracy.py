"""Compares what ``tune --dry-run`` says with the run that follows, for several models.

    python scripts/forecast_accuracy.py squeezenet resnet18 --budget 3m --save forecast-accuracy

Needs a machine with nothing else to do: a forecast made under other load than the run tells of
another machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from _results import save

from familyseer.cli._output import print_table
from familyseer.units import format_latency


def familyseer(*args: str) -> dict[str, Any]:
    """What a command prints with ``--json``.

    Raises
    ------
    subprocess.CalledProcessError
        It fails.
    """
    command = [sys.executable, "-m", "familyseer.cli", *args, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(model: str, budget: str, seed: int) -> dict[str, Any]:
    """A forecast and what came of it."""
    asked = ("tune", model, "--budget", budget, "--seed", str(seed))
    told = familyseer(*asked, "--dry-run")
    with tempfile.TemporaryDirectory(prefix="familyseer-forecast-") as folder:
        summary = familyseer(*asked, "--quiet", "-o", str(Path(folder) / "out"))
    likely = told["likely_us"]
    return {
        "model": model,
        "took_s": told["took_s"],
        "pace": told["pace"],
        "fits": told["first_pass"]["fits"],
        "covered": summary["covered"] == summary["subgraphs"],
        "candidates": told["candidates"],
        "trials": summary["trials"],
        "fixed_s": told["fixed_s"],
        "tuning_s": told["tuning_s"],
        "phases_s": summary["phases_s"],
        "forecast_untuned_us": told["untuned_us"],
        "untuned_us": summary["untuned_us"],
        "roofline_us": told["roofline_us"],
        "likely_us": likely,
        "tuned_us": summary["tuned_us"],
        "trials_as_told": within(told["candidates"], summary["trials"]),
        "latency_as_told": within(likely, summary["tuned_us"]),
    }


def within(told: dict[str, float] | None, found: float | None) -> bool | None:
    """Whether a figure is in its range; None where one of the two is not known."""
    if told is None or found is None:
        return None
    return told["low"] <= found <= told["high"]


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    likely = one["likely_us"]
    between = "-"
    if likely is not None:
        between = f"{format_latency(likely['low'])} to {format_latency(likely['high'])}"
    return (
        one["model"],
        f"{one['candidates']['low']} to {one['candidates']['high']}",
        str(one["trials"]),
        between,
        format_latency(one["tuned_us"]),
        format_latency(one["forecast_untuned_us"]),
        format_latency(one["untuned_us"]),
    )


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--budget", default="3m", show_default=True, help="Of each run.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(models: tuple[str, ...], budget: str, seed: int, name: str | None) -> None:
    """Forecast runs of MODELS, make them, and say how far off the forecasts were."""
    found = [compare(model, budget, seed) for model in models]
    headings = ("model", "candidates", "were", "latency", "was", "untuned", "was")
    print_table(headings, [_row(one) for one in found], ("left", *("right",) * 6))
    if name is not None:
        click.echo(f"written: {save(name, {'budget': budget, 'runs': found})}")


if __name__ == "__main__":
    main()
