"""Compares models and policies on the recorded tables; writes the figures and their tables.

    python scripts/laboratory.py --seeds 10

What it writes: ``benchmarks/results/laboratory.json`` and ``docs/laboratory.md``. Nothing is
measured, so it may run beside other work: only its duration changes.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from _results import save

from familyseer.laboratory.ranking import rank_unseen
from familyseer.laboratory.replays import WITHIN, replay, replay_stock
from familyseer.laboratory.tables import SUFFIX, NetworkTable, load_table
from familyseer.machine import available_cores
from familyseer.tactics import Tactics

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "benchmarks" / "tables"
PAGE = ROOT / "docs" / "laboratory.md"
OURS, STOCK, STOCK_SHORT = "familyseer", "stock, rounds of 64", "stock, rounds of 16"
AGAINST = (STOCK, STOCK_SHORT, OURS)
# what a table cannot show: it has no noise to confirm winners against
NOT_HERE = ("confirm",)


def policies() -> list[str]:
    """What is replayed: both ways of stock, ours, and ours with each tactic off."""
    off = [f"without {name}" for name in Tactics.names() if name not in NOT_HERE]
    return [STOCK, STOCK_SHORT, OURS, *off]


def replay_one(job: tuple[str, str, int]) -> tuple[str, str, int, list[int]]:
    """One policy on one network with one seed: measurements until within each tolerance."""
    network, policy, seed = job
    table = load_table(TABLES / f"{network}{SUFFIX}")
    if policy == STOCK:
        outcome = replay_stock(table, seed=seed)
    elif policy == STOCK_SHORT:
        outcome = replay_stock(table, seed=seed, round_trials=16)
    else:
        name = policy.removeprefix("without ")
        off = {} if policy == OURS else {name: False}
        outcome = replay(table, seed=seed, tactics=replace(Tactics(), **off))
    return network, policy, seed, [outcome.reached[share] for share in WITHIN]


def rank_one(job: tuple[str, int]) -> tuple[str, int, list[tuple[str, float, float]]]:
    """All models' rankings of one network's unseen subgraphs with one seed."""
    network, seed = job
    table = load_table(TABLES / f"{network}{SUFFIX}")
    found = rank_unseen(table, seed=seed)
    return network, seed, [(r.model, r.accuracy, r.recall) for r in found]


def ranking_table(results: list[Any]) -> dict[str, dict[str, Any]]:
    """Model -> mean accuracy and recall, over networks of the mean over seeds and subgraphs."""
    by_model: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for network, _, rankings in results:
        for model, accuracy, recall in rankings:
            by_model.setdefault(model, {}).setdefault(network, []).append((accuracy, recall))
    table: dict[str, dict[str, Any]] = {}
    for model, networks in by_model.items():
        means = {name: np.mean(values, axis=0) for name, values in networks.items()}
        together = np.mean(list(means.values()), axis=0)
        table[model] = {
            "accuracy": float(together[0]),
            "top20_recall": float(together[1]),
            "networks": {name: [float(v) for v in mean] for name, mean in means.items()},
        }
    return table


def replay_table(results: list[Any]) -> dict[str, dict[str, Any]]:
    """Policy -> measurements to each tolerance by network, and their ratio to others' (`AGAINST`).

    A ratio is over the seeds that the policy was replayed with: those of few seeds and those of
    many would differ by luck alone.
    """
    reached = {(policy, network, seed): steps for network, policy, seed, steps in results}
    networks = list(dict.fromkeys(network for _, network, _ in reached))

    def mean(policy: str, network: str, seeds: list[int]) -> Any:
        return np.mean([reached[policy, network, seed] for seed in seeds], axis=0)

    table: dict[str, dict[str, Any]] = {}
    for policy in dict.fromkeys(policy for policy, _, _ in reached):
        seeds = sorted({seed for name, _, seed in reached if name == policy})
        shares = {}
        for reference in AGAINST:
            ratios = [mean(policy, n, seeds) / mean(reference, n, seeds) for n in networks]
            shares[reference] = [float(v) for v in np.exp(np.log(ratios).mean(axis=0))]
        table[policy] = {
            "seeds": len(seeds),
            "measurements": {n: [float(v) for v in mean(policy, n, seeds)] for n in networks},
            "share_of": shares,
        }
    return table


def page(result: dict[str, Any]) -> str:
    """The figures as a page of tables."""
    networks = ", ".join(f"{n} ({c})" for n, c in result["candidates"].items())
    lines = [
        "# The laboratory",
        "",
        "Written by `scripts/laboratory.py` from the tables in `benchmarks/tables`, which",
        "`scripts/record_tables.py` recorded on one machine: candidates of every subgraph, half of",
        "them drawn at random and half bred from the fast ones, measured, the fastest again.",
        f"Networks (candidates): {networks}.",
        "The search's constants (round size, shares, the process's length and noise) were chosen",
        "on these tables, so the figures are not those of networks that the search has not met.",
        "",
        "## Ranking subgraphs that were never seen",
        "",
        f"Mean over networks and {result['seeds']} seeds; a subgraph counts if it has a sibling",
        "among the seen ones. Accuracy is the share of pairs in the right order; recall is the",
        "share of the 20 fastest among the 20 best predicted.",
        "",
        "| model | pairwise accuracy | recall of the top 20 |",
        "| --- | --- | --- |",
    ]
    for model, row in result["ranking"].items():
        lines.append(f"| {model} | {row['accuracy']:.3f} | {row['top20_recall']:.3f} |")
    lines += [
        "",
        "## Measurements until nearly as good as the best known",
        "",
        "Measurements until a network's estimated latency is within 5 %, 2 % and 1 % of what its",
        "best known candidates give, as a share of what stock's way needs (geometric mean over",
        "networks of means over seeds; below 1 is better). Stock's way is one model of all",
        "subgraphs without the analytic estimate, random candidates for the first 100, a first",
        "round of each subgraph and then the gradient over rounds: of 64 candidates, which is",
        "MetaSchedule's default, or of 16. Shares are over a policy's own seeds. What the cascade",
        "saves is time, which is not counted here.",
        "",
        "| policy | seeds | 5 % / 2 % / 1 % of stock (64) | of stock (16) | of familyseer |",
        "| --- | --- | --- | --- | --- |",
    ]
    for policy, row in result["replay"].items():
        cells = [" / ".join(f"{v:.2f}" for v in row["share_of"][one]) for one in AGAINST]
        lines.append(f"| {policy} | {row['seeds']} | {' | '.join(cells)} |")
    machine = result["recorded_on"]
    lines += ["", f"Recorded on: {machine['cpu']}, {machine['available_cores']} cores.", ""]
    return "\n".join(lines)


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--ablation-seeds",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Seeds of the policies with a tactic off, no more than of the others; 0 leaves them out.",
)
@click.option("--network", "only", multiple=True, help="Only these tables.")
@click.option("--name", default="laboratory", show_default=True, help="Name of the result file.")
def main(seeds: int, ablation_seeds: int, only: tuple[str, ...], name: str) -> None:
    """Rank, replay, and write the result and the page."""
    names = sorted(p.name.removesuffix(SUFFIX) for p in TABLES.glob(f"*{SUFFIX}"))
    names = [n for n in names if not only or n in only]
    tables: dict[str, NetworkTable] = {n: load_table(TABLES / f"{n}{SUFFIX}") for n in names}
    jobs = [
        (network, policy, seed)
        for policy in policies()
        for network in names
        for seed in range(min(ablation_seeds, seeds) if policy.startswith("without") else seeds)
    ]
    # one process a core: trees' and algebra's own threads would only wait for each other
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(available_cores(), mp_context=context) as pool:
        ranked = []
        for found in pool.map(rank_one, [(n, s) for n in names for s in range(seeds)]):
            ranked.append(found)
            click.echo(f"ranked {found[0]}, seed {found[1]}")
        replayed = []
        for one in pool.map(replay_one, jobs):
            replayed.append(one)
            click.echo(f"{one[1]}, {one[0]}, seed {one[2]}: {one[3]}")
    result = {
        "seeds": seeds,
        "candidates": {n: sum(len(r) for r in t.subgraphs) for n, t in tables.items()},
        "recorded_on": next(iter(tables.values())).machine,
        "ranking": ranking_table(ranked),
        "replay": replay_table(replayed),
        "runs": [[network, policy, seed, reached] for network, policy, seed, reached in replayed],
    }
    path = save(name, result)
    if not only:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(result))
    click.echo(page(result))
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
