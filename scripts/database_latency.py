"""Checks that a run's database says what its library does.

    python scripts/database_latency.py OUT

Builds a second library with MetaSchedule's own `MetaScheduleApplyDatabase` on ``OUT/tuning`` and
times it end to end in turns with ``OUT/model.so``.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import click

from familyseer.export._compile import build_library
from familyseer.export._jobs import time_libraries
from familyseer.models import example_inputs, load_model
from familyseer.subgraphs import fuse
from familyseer.tvm_env import load_tvm


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--repeats", default=100, show_default=True)
def main(out: Path, repeats: int) -> None:
    """Time OUT/model.so and what TVM makes of OUT/tuning by itself."""
    summary = json.loads((out / "summary.json").read_text())
    tvm = load_tvm(intrinsics=True)
    target = tvm.target.Target(json.loads(summary["target"]))
    shapes = {spec["name"]: tuple(spec["shape"]) for spec in summary["inputs"]}
    model = load_model(summary["source"], input_shapes=shapes, seed=summary["seed"])
    fused = fuse(model.mod, target)
    with target:
        applied = tvm.relax.transform.MetaScheduleApplyDatabase(str(out / "tuning"))(fused)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "applied.so"
        build_library(applied, target, path)
        made = example_inputs(model.inputs, seed=0)
        times = time_libraries(
            {"model.so": str(out / "model.so"), "MetaScheduleApplyDatabase": str(path)},
            summary["device"],
            [made[spec.name] for spec in model.inputs],
            repeats,
            60.0,
        )
    for name, seconds in times.items():
        quartiles = [q * 1e3 for q in statistics.quantiles(seconds, n=4)]
        click.echo(
            f"{name}: median {quartiles[1]:.3f} ms, quartiles {quartiles[0]:.3f} to "
            f"{quartiles[2]:.3f} ms, {len(seconds)} runs"
        )


if __name__ == "__main__":
    main()
