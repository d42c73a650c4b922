"""End-to-end latency of a run of ours as it stood at some moments, beside other libraries.

    python scripts/latency_over_time.py OUT --at 1m --at 4m --beside stock=STOCK/model.so

A tuner's estimate is the sum of what it measured, each in its own way, so estimates of two tuners
cannot be compared: here the library of each moment is compiled from the records that the run had
by then, and all libraries are timed end to end in turns. What it writes:
``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import click
from _results import save
from _tuned_run import library_of, read_run

from familyseer.compare import Point, read_curve
from familyseer.duration import parse_duration
from familyseer.export._jobs import time_libraries
from familyseer.measure import WorkerPool
from familyseer.records._files import RECORDS, WORKLOADS
from familyseer.subgraphs import extract_subgraphs


def parse_beside(text: str) -> tuple[str, Path]:
    """``NAME=LIBRARY`` as its parts."""
    name, equals, path = text.partition("=")
    if not (name and equals and Path(path).is_file()):
        raise click.BadParameter(f"{text}: expected NAME=LIBRARY such as stock=stock/model.so")
    return name, Path(path)


def trials_by(curve: list[Point], seconds: float) -> int:
    """Trials that had ended after some seconds of a run."""
    return max((p.trials for p in curve if p.elapsed_s <= seconds), default=0)


def first_records(tuning: Path, trials: int, folder: Path) -> Path:
    """The database that a run had after some trials, each of which is a line of the records."""
    folder.mkdir()
    shutil.copy(tuning / WORKLOADS, folder)
    with (tuning / RECORDS).open("rb") as whole, (folder / RECORDS).open("wb") as part:
        part.writelines(islice(whole, trials))
    return folder


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--at", "moments", multiple=True, required=True, help="Time since the run's start.")
@click.option("--beside", multiple=True, metavar="NAME=LIBRARY", help="Timed in the same turns.")
@click.option("--repeats", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="No new turn after these.")
@click.option("--name", help="Name of the result file.  [default: over-time-MODEL]")
def main(
    out: Path,
    moments: tuple[str, ...],
    beside: tuple[str, ...],
    repeats: int,
    seconds: float,
    name: str | None,
) -> None:
    """Time the run in OUT as it stood at each moment, and other libraries of the same model."""
    others = dict(parse_beside(text) for text in beside)
    run = read_run(out)
    subgraphs = extract_subgraphs(run.fused, run.target)
    curve = read_curve(out / "history.csv")
    points: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made, WorkerPool(1) as pool:
        paths = {label: str(path.resolve()) for label, path in others.items()}
        for moment in sorted({parse_duration(text) for text in moments}):
            trials = trials_by(curve, moment)
            database = first_records(out / "tuning", trials, Path(made) / f"{moment:g}s")
            library = Path(made) / f"{moment:g}s.so"
            covered = library_of(run, subgraphs, database, library)
            paths[f"{moment:g} s"] = str(library)
            points.append({"seconds": moment, "trials": trials, "covered": covered})
        times = pool.submit(
            time_libraries, paths, run.device, run.inputs, repeats, seconds
        ).result()
    latency_us = {label: statistics.median(found) * 1e6 for label, found in times.items()}
    for point in points:
        point["latency_us"] = latency_us[f"{point['seconds']:g} s"]
    result = {
        "model": run.name,
        "moments": points,
        "beside_us": {label: latency_us[label] for label in others},
        "turns": min(len(found) for found in times.values()),
    }
    path = save(name or f"over-time-{run.name}", result)
    for label, median_us in latency_us.items():
        click.echo(f"{label:>16}: {median_us / 1e3:8.3f} ms")
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
