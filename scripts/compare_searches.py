"""Compares our search with MetaSchedule's on single subgraphs: same workers, as many candidates.

    python scripts/compare_searches.py resnet18 fused_conv2d7_add5_relu3 --trials 256 --rounds 3

A whole run mixes how candidates are found with which subgraph gets them. Here each named subgraph
is tuned alone, in a fresh process, by MetaSchedule's evolutionary search with its own cost model
and by ours, both with our builder and runner. What it writes to ``benchmarks/results/NAME.json``
are the best times after so many candidates, and how many candidates either needed for the slower
one's final time. ``--constant MODULE.NAME=VALUE`` changes a constant of our search, to see what it
is worth.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from typing import Any

import click
from _results import save

OURS, THEIRS = "familyseer", "metaschedule"
# after how many candidates the best time is told
SHOWN = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


def tune_ours(spec: dict[str, Any]) -> list[float]:
    """Seconds of each candidate as our search measured them, in order."""
    from costmodels import FamilyCostModel
    from familyseer.compare._workers import warm_workers
    from familyseer.machine import available_cores
    from familyseer.measure._timing import expect_model
    from familyseer.search import BudgetLoop, Clock, Rounds, TaskState
    from familyseer.search._proposals import new_context
    from familyseer.tvm_env import load_tvm

    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    for place, value in spec["constants"].items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    subgraph, model, target = find(spec)
    measured: list[float] = []
    with warm_workers(target) as (builder, runner):
        rounds = Rounds(
            [TaskState(subgraph, "alone")],
            [new_context(subgraph, target, spec["seed"], available_cores())],
            builder=builder,
            runner=runner,
            database=ms.database.MemoryDatabase(),
            cost_model=FamilyCostModel({subgraph.key: "alone"}, seed=spec["seed"]),
            clock=Clock(None),
            max_trials=spec["trials"],
            on_measured=lambda _, done: measured.extend(m.run_s for m in done),
        )
        # the rounds took the one subgraph for the whole model
        expect_model(runner, model)
        BudgetLoop(rounds).run()
    return measured


def tune_theirs(spec: dict[str, Any]) -> list[float]:
    """Seconds of each candidate as MetaSchedule's search measured them, in order."""
    from familyseer.compare._workers import warm_workers
    from familyseer.machine import available_cores
    from familyseer.measure._measure import median_run_s
    from familyseer.measure._timing import expect_model
    from familyseer.search._proposals import new_context
    from familyseer.tvm_env import load_tvm

    tvm = load_tvm(intrinsics=True)
    ms = tvm.s_tir.meta_schedule
    py_runner: Any = ms.runner.PyRunner
    subgraph, model, target = find(spec)
    measured: list[float] = []

    @tvm.ir.utils.derived_object
    class Watched(py_runner):  # type: ignore[misc]
        def __init__(self, runner: Any) -> None:
            super().__init__()
            self.runner = runner

        def run(self, runner_inputs: list[Any]) -> list[Any]:
            futures = list(self.runner.run(list(runner_inputs)))
            for future in futures:
                seconds = future.result().run_secs
                measured.append(median_run_s(seconds) if seconds else math.inf)
            return futures

    with warm_workers(target) as (builder, runner), tempfile.TemporaryDirectory() as folder:
        expect_model(runner, model)
        ms.tune_tasks(
            tasks=[new_context(subgraph, target, spec["seed"], available_cores())],
            task_weights=[1.0],
            work_dir=folder,
            max_trials_global=spec["trials"],
            builder=builder,
            runner=Watched(runner),
            database=ms.database.MemoryDatabase(),
        )
    return measured


def find(spec: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The subgraph, all subgraphs of its model, and the target."""
    from familyseer.models import load_model
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target

    target = resolve_target(None)
    subgraphs = extract_subgraphs(fuse(load_model(spec["model"]).mod, target), target)
    named = {s.name: s for s in subgraphs}
    if spec["subgraph"] not in named:
        raise SystemExit(f"{spec['subgraph']}: expected one of {', '.join(named)}")
    return named[spec["subgraph"]], subgraphs, target


def work(spec: dict[str, Any], answers: Any) -> None:
    """One run, in a process of its own."""
    began = time.monotonic()
    measured = (tune_ours if spec["tuner"] == OURS else tune_theirs)(spec)
    answers.send((measured, time.monotonic() - began))


def run_alone(spec: dict[str, Any]) -> dict[str, Any]:
    """What a run in a fresh process measured."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(spec, there))
    process.start()
    there.close()
    try:
        measured, seconds = here.recv()
    except EOFError:
        raise SystemExit(f"{spec['subgraph']}: the run of {spec['tuner']} failed") from None
    process.join()
    told = [n for n in SHOWN if n < len(measured)] + [len(measured)]
    best_us = [[n, min(measured[:n]) * 1e6] for n in told]
    return {**spec, "elapsed_s": seconds, "best_us": best_us, "measured_s": measured}


def to_reach(run: dict[str, Any], seconds: float) -> int:
    """Candidates until one was as fast."""
    return next(i + 1 for i, s in enumerate(run["measured_s"]) if s <= seconds)


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Candidates that either needed for what both reached, and ours' final time over theirs."""
    final = {run["tuner"]: min(run["measured_s"]) for run in (ours, theirs)}
    both = max(final.values())
    return {
        "subgraph": ours["subgraph"],
        "seed": ours["seed"],
        "trials_ours": to_reach(ours, both),
        "trials_theirs": to_reach(theirs, both),
        "final_ratio": final[OURS] / final[THEIRS],
    }


def constants(texts: tuple[str, ...]) -> dict[str, Any]:
    """``MODULE.NAME=VALUE`` as a mapping."""
    pairs = [text.partition("=") for text in texts]
    return {place: json.loads(value) for place, _, value in pairs}


@click.command()
@click.argument("model")
@click.argument("subgraphs", nargs=-1, required=True)
@click.option("--trials", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--only", type=click.Choice([OURS, THEIRS]), help="Run one search, write nothing.")
@click.option("--constant", "changed", multiple=True, metavar="MODULE.NAME=VALUE")
@click.option("--name", help="Name of the result file.  [default: searches-MODEL]")
def main(
    model: str,
    subgraphs: tuple[str, ...],
    trials: int,
    rounds: int,
    seed: int,
    only: str | None,
    changed: tuple[str, ...],
    name: str | None,
) -> None:
    """Tune each of the SUBGRAPHS of MODEL alone with both searches, in turns."""
    base = {"model": model, "trials": trials, "constants": constants(changed)}
    runs: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for number in range(rounds):
        order = [OURS, THEIRS] if number % 2 == 0 else [THEIRS, OURS]
        for subgraph in subgraphs:
            made = {}
            for tuner in order if only is None else [only]:
                spec = {**base, "subgraph": subgraph, "tuner": tuner, "seed": seed + number}
                made[tuner] = run = run_alone(spec)
                shown = " ".join(f"{n}:{us:.1f}" for n, us in run["best_us"])
                click.echo(f"{subgraph} {tuner} {seed + number} {run['elapsed_s']:.0f} s {shown}")
            if only is None:
                pairs.append(compare(made[OURS], made[THEIRS]))
            runs += made.values()
    if not pairs:
        return
    summary = {
        "trials_ratio": statistics.geometric_mean(
            p["trials_theirs"] / p["trials_ours"] for p in pairs
        ),
        "final_ratio": statistics.geometric_mean(p["final_ratio"] for p in pairs),
        "pairs": pairs,
    }
    for run in runs:
        del run["measured_s"]
    click.echo(json.dumps(summary))
    path = save(name or f"searches-{model}", {**base, **summary, "runs": runs})
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
