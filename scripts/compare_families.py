"""Compares the ways of forming families: the same model, budget and seeds for each, in turns.

    python scripts/compare_families.py squeezenet --budget 2m --rounds 2

Each method runs in a fresh process; the order turns with the rounds. The libraries of a round are
timed end to end in turns. Results go to ``benchmarks/results/families-MODEL.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import click
from _results import save

from familyseer.compare import CompareOptions, read_curve, time_libraries_of, untuned_library
from familyseer.duration import parse_duration
from familyseer.families import METHODS


def run_method(model: str, method: str, budget: str, seed: int, folder: Path) -> dict[str, Any]:
    """One tuning run; what its summary and history say that matters here."""
    command = [sys.executable, "-m", "familyseer.cli", "tune", model, "-o", str(folder), "--quiet"]
    command += ["--budget", budget, "--seed", str(seed), "--families", method]
    subprocess.run(command, check=True)
    summary = json.loads((folder / "summary.json").read_text())
    estimates = [p.estimated_us for p in read_curve(folder / "history.csv") if p.estimated_us]
    return {
        "method": method,
        "seed": seed,
        "folder": str(folder),
        "trials": summary["trials"],
        "covered_at_s": summary["covered_at_s"],
        "estimated_us": min(estimates, default=None),
    }


@click.command()
@click.argument("model")
@click.option("--budget", default="2m", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
def main(model: str, budget: str, rounds: int) -> None:
    """Run each method on MODEL and write benchmarks/results/families-MODEL.json."""
    top = Path(tempfile.mkdtemp(prefix="familyseer-families-"))
    options = CompareOptions(model=model, out=top, budget_s=parse_duration(budget), tuners=())
    untuned = untuned_library(options)
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        turn = number % len(METHODS)
        made = [
            run_method(model, method, budget, number, top / f"{method}-{number}")
            for method in (*METHODS[turn:], *METHODS[:turn])
        ]
        time_libraries_of(made, untuned)
        for run in made:
            del run["folder"]
            click.echo(json.dumps(run))
        runs += made
    totals = {}
    for method in METHODS:
        own = [run for run in runs if run["method"] == method]
        totals[method] = {
            "tuned_us": geometric_mean([run["tuned_us"] for run in own]),
            "estimated_us": geometric_mean([run["estimated_us"] for run in own]),
        }
        click.echo(f"{method}: {totals[method]}")
    result = {"model": model, "budget": budget, "rounds": rounds, "means": totals, "runs": runs}
    click.echo(f"written: {save(f'families-{Path(model).stem}', result)}")


if __name__ == "__main__":
    main()
