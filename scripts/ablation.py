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


def live_table(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Variant -> end-to-end latency over ours by network, and their mean; above 1: slower."""
    networks = list(dict.fromkeys(run["network"] for run in runs))
    table: dict[str, dict[str, float]] = {}
    for variant in dict.fromkeys(run["tuner"] for run in runs):
        ratios = {}
        for network in networks:
            times = {
                tuner: statistics.median(
                    r["tuned_us"] for r in runs if r["tuner"] == tuner and r["network"] == network
                )
                for tuner in (variant, OURS)
            }
            ratios[network] = times[variant] / times[OURS]
        table[variant] = {**ratios, "mean": statistics.geometric_mean(ratios.values())}
    return table


def page(live: dict[str, dict[str, float]], lab: dict[str, Any], result: dict[str, Any]) -> str:
    """Both halves as tables."""
    networks = [name for name in next(iter(live.values())) if name != "mean"]
    lines = [
        "# What each tactic earns",
        "",
        "Written by `scripts/ablation.py`.",
        "",
        f"Live: {result['budget_s']:g} s each, {result['rounds']} rounds, end-to-end latency of",
        "the library over that of the whole search's library (above 1: slower without the tactic).",
        f"Machine: {machine()['cpu']}, {machine()['available_cores']} cores, shared.",
        "Laboratory: measurements until within 2 % of the best known, over those of the whole",
        "search (above 1: more without the tactic); `confirm` has no effect without noise.",
        "",
        "| without | " + " | ".join(networks) + " | live mean | laboratory |",
        "| --- |" + " --- |" * (len(networks) + 2),
    ]
    for variant, ratios in live.items():
        if variant == OURS:
            continue
        name = variant.removeprefix(WITHOUT)
        row = lab.get(f"without {name}")
        share = "-"
        if row is not None:
            share = f"{row['share_of'][OURS][1]:.2f}"
        cells = [f"{ratios[n]:.2f}" for n in [*networks, "mean"]]
        lines.append(f"| {name} | {' | '.join(cells)} | {share} |")
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
    result = {"networks": list(networks), "budget_s": budget_s, "rounds": rounds, "seed": seed}
    live = live_table(runs)
    path = save("ablation", {**result, "live": live, "runs": runs})
    PAGE.write_text(page(live, lab, result))
    click.echo(page(live, lab, result))
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
