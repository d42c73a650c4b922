"""What each tactic of the search earns: on the recorded tables, and live on networks.

    python scripts/ablation.py mobilenet_0.5 gpt2_small --budget 5m --rounds 2 --keep DIR

The table half comes from ``benchmarks/results/laboratory.json`` (``scripts/laboratory.py``). For
the live half every variant runs in a fresh process, in turns, and the libraries of a round are
timed end to end in turns. What it writes: ``benchmarks/results/ablation.json`` and
``docs/ablation.md``. With ``--keep DIR``, the same command goes on where an interrupted one
stopped.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import click
from _kept_runs import folder_for, run_or_read
from _results import RESULTS, machine, save

from familyseer.compare import (
    CompareOptions,
    final_us,
    read_curve,
    time_libraries_of,
    untuned_library,
)
from familyseer.duration import parse_duration
from familyseer.tactics import Tactics
from familyseer.tuners import OURS, WITHOUT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ablation.md"


def run_live(
    network: str, budget_s: float, rounds: int, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """All variants on one network, `rounds` times, each round with another seed and order."""
    variants = [OURS, *(f"{WITHOUT}{name}" for name in Tactics.names())]
    options = CompareOptions(
        model=network, out=folder, budget_s=budget_s, tuners=(), seed=seed, rounds=rounds
    )
    untuned = untuned_library(options)
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        turn = (number * 3) % len(variants)
        order = variants[turn:] + variants[:turn]
        made = [run_or_read(options, variant, number) for variant in order]
        time_libraries_of(made, untuned)
        for run in made:
            curve = read_curve(Path(run.pop("folder")) / "history.csv")
            runs.append({**run, "network": network, "estimated_us": final_us(curve)})
    return runs


def live_table(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Variant -> end-to-end latency over ours; above 1: slower.

    ``networks`` has the ratio of the medians over rounds by network, ``rounds`` each round's ratio
    by network, ``mean`` the geometric mean of all those, and ``error`` its standard error as a
    share, None of a single round of a single network.
    """
    took = {(r["network"], r["tuner"], r["round"]): r["tuned_us"] for r in runs}
    networks = list(dict.fromkeys(network for network, _, _ in took))
    rounds = sorted({number for _, _, number in took})
    table: dict[str, dict[str, Any]] = {}
    for variant in dict.fromkeys(tuner for _, tuner, _ in took):

        def median(network: str, tuner: str) -> float:
            return float(statistics.median(took[network, tuner, n] for n in rounds))

        each = {
            n: [took[n, variant, number] / took[n, OURS, number] for number in rounds]
            for n in networks
        }
        logs = [math.log(ratio) for ratios in each.values() for ratio in ratios]
        table[variant] = {
            "networks": {n: median(n, variant) / median(n, OURS) for n in networks},
            "mean": math.exp(statistics.fmean(logs)),
            "error": statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else None,
            "rounds": each,
        }
    return table


def spread(runs: list[dict[str, Any]], network: str) -> float:
    """Slowest over fastest library of one variant on a network, where that is largest."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if run["network"] == network:
            took.setdefault(run["tuner"], []).append(run["tuned_us"])
    ratios = [max(times) / min(times) for times in took.values()]
    return max(ratios)


def page(lab: dict[str, Any], result: dict[str, Any]) -> str:
    """Both halves as tables."""
    networks = result["networks"]
    spreads = ", ".join(f"{spread(result['runs'], n):.2f} on {n}" for n in networks)
    lines = [
        "# What each tactic earns",
        "",
        "Written by `scripts/ablation.py`.",
        "",
        f"Live: {result['budget_s']:g} s each, {result['rounds']} rounds, end-to-end latency of",
        "the library over that of the whole search's library (above 1: slower without the tactic):",
        "the ratio of medians, and in brackets each round's. Rounds differ in the seed, by which",
        f"libraries of one variant came out slower by a factor of up to {spreads}.",
        "The mean is of all rounds, with its standard error; the rounds of the whole search are in",
        "every row, so where these came out badly all rows are below 1.",
        f"Machine: {machine()['cpu']}, {machine()['available_cores']} cores, shared.",
        "Laboratory: measurements until within 2 % of the best known, over those of the whole",
        "search with the same seeds (above 1: more without the tactic). `confirm` has no effect",
        "without noise, and `cascade` saves time that the laboratory does not count.",
        "",
        "| without | " + " | ".join(networks) + " | live mean | laboratory |",
        "| --- |" + " --- |" * (len(networks) + 2),
    ]
    for variant, row in result["live"].items():
        if variant == OURS:
            continue
        name = variant.removeprefix(WITHOUT)
        cells = []
        for network in networks:
            each = ", ".join(f"{ratio:.2f}" for ratio in row["rounds"][network])
            cells.append(f"{row['networks'][network]:.2f} ({each})")
        replayed = lab.get(f"without {name}")
        share = "-" if replayed is None else f"{replayed['share_of'][OURS][1]:.2f}"
        error = "" if row["error"] is None else f" ± {row['error']:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {row['mean']:.2f}{error} | {share} |")
    return "\n".join([*lines, ""])


@click.command()
@click.argument("networks", nargs=-1, required=True)
@click.option("--budget", default="5m", show_default=True, help="Of each run.")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder to keep the runs in, to go on from."
)
def main(networks: tuple[str, ...], budget: str, rounds: int, seed: int, keep: Path | None) -> None:
    """Run every variant on NETWORKS and write the result and the page."""
    laboratory = RESULTS / "laboratory.json"
    lab = json.loads(laboratory.read_text())["replay"] if laboratory.exists() else {}
    budget_s = parse_duration(budget)
    folder = folder_for(keep, "ablation")
    runs = [
        run
        for name in networks
        for run in run_live(name, budget_s, rounds, seed, folder / Path(name).stem)
    ]
    result = {
        "networks": list(networks),
        "budget_s": budget_s,
        "rounds": rounds,
        "seed": seed,
        "live": live_table(runs),
        "runs": runs,
    }
    path = save("ablation", result)
    PAGE.write_text(page(lab, result))
    click.echo(page(lab, result))
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
