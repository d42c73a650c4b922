"""Tunes the paper's networks for real: those whose weights a library carries, one after the other.

    python scripts/tune_networks.py --budget 10m --save tuned-networks

Each is tuned by `familyseer tune` in a process of its own, into a folder of its own below --out; a
network that is done there is not tuned again, and one that was interrupted goes on. Speed-ups are
of the whole network, the untuned library timed in turns with the tuned one; errors are the largest
of any output, relative to its largest magnitude. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from _results import save
from families_of_networks import PAPER

from familyseer.cli._output import Align, print_table
from familyseer.duration import format_duration, parse_duration
from familyseer.models import zoo
from familyseer.safe_json import load_json

_RIGHT: tuple[Align, ...] = ("right",) * 7
# of a run's summary, what is kept
_KEPT = (
    "seed",
    "budget_s",
    "elapsed_s",
    "elapsed_before_s",
    "trials",
    "build_errors",
    "run_errors",
    "subgraphs",
    "covered",
    "covered_at_s",
    "untuned_us",
    "tuned_us",
    "speedup",
    "max_rel_error",
    "max_rel_error_onnxruntime",
    "fell_back",
    "quarantined",
    "stopped_by",
)


def tuned(network: str, budget_s: float, seed: int, out: Path) -> dict[str, Any]:
    """What the run's summary says, tuned now unless a finished run of the same is in ``out``.

    Raises
    ------
    subprocess.CalledProcessError
        Tuning failed.
    """
    summary = out / "summary.json"
    if not (summary.exists() and _is_done(_read(summary), budget_s, seed)):
        command = [sys.executable, "-m", "familyseer.cli", "tune", network, "-o", str(out)]
        command += ["--budget", f"{budget_s}s", "--seed", str(seed), "--resume", "--quiet"]
        subprocess.run(command, check=True)
    found = _read(summary)
    return {"parameters": zoo.describe(network).parameters, **{k: found[k] for k in _KEPT}}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_json(path, what="the summary of a tuning run")
    return found


def _is_done(summary: dict[str, Any], budget_s: float, seed: int) -> bool:
    same = (summary["budget_s"], summary["seed"]) == (budget_s, seed)
    return same and summary["stopped_by"] != "interrupt"


def _row(network: str, found: dict[str, Any]) -> tuple[str, ...]:
    elapsed_s = found["elapsed_before_s"] + found["elapsed_s"]
    return (
        network,
        f"{found['covered']} of {found['subgraphs']}",
        str(found["trials"]),
        _number(found["untuned_us"], 1e-3, ".2f"),
        _number(found["tuned_us"], 1e-3, ".2f"),
        _number(found["speedup"], 1, ".1f"),
        _number(found["max_rel_error"], 1, ".1e"),
        f"{format_duration(elapsed_s)} of {format_duration(found['budget_s'])}",
    )


def _number(value: float | None, scale: float, form: str) -> str:
    return "?" if value is None else format(value * scale, form)


@click.command()
@click.argument("networks", nargs=-1)
@click.option("--budget", default="10m", show_default=True, help="Of each network.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True)
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(networks: tuple[str, ...], budget: str, seed: int, out: Path, name: str | None) -> None:
    """Tune NETWORKS (default: those of the paper that carry their weights)."""
    chosen = networks or tuple(each for each in PAPER if not zoo.is_huge(each))
    results: dict[str, Any] = {}
    for network in chosen:
        results[network] = tuned(network, parse_duration(budget), seed, out / network)
        click.echo(f"{network}: {json.dumps(results[network])}", err=True)
    headings = ("network", "subgraphs", "candidates", "untuned ms", "tuned ms", "speed-up")
    rows = [_row(network, found) for network, found in results.items()]
    print_table((*headings, "error", "time of budget"), rows, align=("left", *_RIGHT))
    if name is not None:
        result = {"load_average": os.getloadavg(), "networks": results}
        click.echo(f"written: {save(name, result)}")


if __name__ == "__main__":
    main()
