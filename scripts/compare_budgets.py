"""Compares tuners that get different budgets, and writes the result with the machine's name.

    python scripts/compare_budgets.py squeezenet familyseer:5m metaschedule:25m --rounds 2

Each TUNER:BUDGET runs in a fresh process, one after the other, the order turning with the rounds.
The libraries of a round are then timed end to end in turns. Results go to
``benchmarks/results/NAME.json``. With ``--keep DIR``, the same command goes on where an interrupted
one stopped: runs that have ended are not made again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from _kept_runs import folder_for, run_or_read
from _results import save

from familyseer.compare import (
    CompareOptions,
    final_us,
    read_curve,
    time_libraries_of,
    untuned_library,
)
from familyseer.duration import parse_duration
from familyseer.tuners import check_tuner

CURVE_POINTS = 400


def parse_entry(text: str) -> tuple[str, float]:
    """``familyseer:5m`` as the tuner's name and seconds."""
    tuner, _, budget = text.partition(":")
    if not budget:
        raise click.BadParameter(f"{text}: expected TUNER:BUDGET such as familyseer:5m")
    return check_tuner(tuner), parse_duration(budget)


def at(curve: list[Any], seconds: float) -> dict[str, Any]:
    """Trials and estimated latency of a run after some seconds."""
    past = [p for p in curve if p.elapsed_s <= seconds]
    known = [p.estimated_us for p in past if p.estimated_us is not None]
    return {
        "seconds": seconds,
        "trials": past[-1].trials if past else 0,
        "estimated_us": min(known, default=None),
    }


@click.command()
@click.argument("model")
@click.argument("entries", nargs=-1, required=True, metavar="TUNER:BUDGET...")
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--name", help="Name of the result file.  [default: compare-MODEL]")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder to keep the runs in, to go on from."
)
def main(
    model: str,
    entries: tuple[str, ...],
    rounds: int,
    seed: int,
    name: str | None,
    keep: Path | None,
) -> None:
    """Run each TUNER:BUDGET on MODEL and write benchmarks/results/NAME.json."""
    parsed = [parse_entry(text) for text in entries]
    folder = folder_for(keep, "budgets")
    base = CompareOptions(
        model=model, out=folder, budget_s=0.0, tuners=(), seed=seed, rounds=rounds
    )
    untuned = untuned_library(base)
    moments = sorted({seconds for _, seconds in parsed})
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        turn = number % len(parsed)
        made = []
        for tuner, seconds in parsed[turn:] + parsed[:turn]:
            options = replace(base, budget_s=seconds, out=folder / f"{seconds:g}s")
            made.append({**run_or_read(options, tuner, number), "budget_s": seconds})
        time_libraries_of(made, untuned)
        runs += made
    for run in runs:
        curve = read_curve(Path(run.pop("folder")) / "history.csv")
        run["at"] = [at(curve, s) for s in moments if s <= run["budget_s"]]
        run["covered_at_s"] = next((p.elapsed_s for p in curve if p.estimated_us), None)
        run["estimated_us"] = final_us(curve)
        thinned = curve[:: max(1, len(curve) // CURVE_POINTS)]
        run["curve"] = [[p.elapsed_s, p.trials, p.estimated_us] for p in thinned]
    result = {"model": model, "rounds": rounds, "seed": seed, "runs": runs}
    path = save(name or f"compare-{Path(model).stem}", result)
    for run in runs:
        shown = {k: v for k, v in run.items() if k != "curve"}
        click.echo(json.dumps(shown))
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
