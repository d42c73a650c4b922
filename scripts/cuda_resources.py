"""How well the compiler's figures of CUDA candidates are foretold, without a GPU.

Random candidates of a network's subgraphs are compiled as the tuner does; half of each subgraph's
teach a `costmodels._resources.ResourceModel`, the others are foretold. Printed are the rank
correlations (Spearman) of what was foretold with what the compiler says: over all those candidates,
and within subgraphs, weighted by their candidates, which is what ranks candidates of a round.

    python scripts/cuda_resources.py resnet18 --precision float16 --candidates 24
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from cuda_builds import candidates
from scipy.stats import spearmanr

from costmodels._candidates import CandidateFeatures
from costmodels._resources import COLUMNS, ResourceModel, figures
from familyseer.measure import WarmBuilder
from familyseer.models import load_model
from familyseer.search._proposals import new_context
from familyseer.subgraphs import Subgraph, extract_subgraphs, fuse
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm

Rows = npt.NDArray[np.float32]
NAMES = ("registers", "local bytes", "shared bytes", "occupancy")


def compiled(
    subgraph: Subgraph, target: Any, count: int, seed: int, builder: WarmBuilder
) -> tuple[Rows, Rows]:
    """Features and figures of at most `count` random candidates of each sketch, as rows."""
    ms = load_tvm().s_tir.meta_schedule
    context = new_context(subgraph, target, seed, 1)
    drawn = [sch for _, sch in candidates(subgraph, target, count, seed)]
    batch = CandidateFeatures().batch(
        context, [ms.MeasureCandidate(sch, []) for sch in drawn], subgraph.flops
    )
    found, kept = [], []
    started = [builder.start(sch.mod, target) for sch in drawn]
    for i, future in enumerate(started):
        result, _ = builder.finish(future)
        if result.error_msg is None:
            shutil.rmtree(Path(str(result.artifact_path)).parent)
        used = builder.resources(future)
        if used is not None and batch.valid[i]:
            found.append(used)
            kept.append(i)
    return batch.rows[kept], figures(found)


def correlation(one: Rows, other: Rows) -> float | None:
    """Spearman's; None where either is the same throughout."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other).statistic)


def within(owner: npt.NDArray[np.int64], one: Rows, other: Rows) -> float | None:
    """Mean over subgraphs, weighted by their candidates."""
    sizes, found = [], []
    for index in np.unique(owner):
        mine = owner == index
        value = correlation(one[mine], other[mine])
        if value is not None:
            sizes.append(int(mine.sum()))
            found.append(value)
    return float(np.average(found, weights=sizes)) if found else None


def told(value: float | None) -> str:
    """As the table has it."""
    return f"{value:8.2f}" if value is not None else "       -"


@click.command()
@click.argument("model")
@click.option("--target", default="nvidia/nvidia-h200", show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--candidates", "count", default=24, show_default=True, help="Of each sketch.")
@click.option("--subgraphs", "most", type=int, help="The first ones only.")
@click.option("--seed", default=0, show_default=True)
def main(model: str, target: str, precision: str, count: int, most: int | None, seed: int) -> None:
    """Tell how well registers, local and shared memory, and occupancy of MODEL are foretold."""
    load_tvm(intrinsics=True)
    resolved = resolve_target(target)
    subgraphs = extract_subgraphs(
        fuse(load_model(model, precision=precision).mod, resolved), resolved
    )[:most]
    builder = WarmBuilder(timeout_s=120)
    rows, real, owner = [], [], []
    try:
        for index, subgraph in enumerate(subgraphs):
            found = compiled(subgraph, resolved, count, seed, builder)
            rows.append(found[0])
            real.append(found[1])
            owner.append(np.full(len(found[0]), index))
            click.echo(f"{subgraph.name[:50]}: {len(found[0])}", err=True)
    finally:
        builder.close()
    known, figures_, owners = map(np.concatenate, (rows, real, owner))
    # every second one of each subgraph
    taught = np.concatenate([np.arange(len(one)) % 2 == 0 for one in rows])
    if not taught.any():
        raise click.ClickException(f"{model}: no candidate compiled; expected some")
    learner = ResourceModel()
    learner.learn(known[taught], figures_[taught])
    learner.train()
    foretold = learner.predict(known[~taught])
    click.echo(f"{model} {precision}: taught {taught.sum()}, foretold {len(foretold)}, ", nl=False)
    click.echo(f"{learner.train_seconds / learner.trainings * 1e3:.0f} ms a training")
    click.echo("              all      within subgraphs")
    for column in range(COLUMNS):
        pair = foretold[:, column], figures_[~taught, column]
        mean = within(owners[~taught], *pair)
        click.echo(f"{NAMES[column]:12s}{told(correlation(*pair))}{told(mean)}")


if __name__ == "__main__":
    main()
