"""Checks that a run's database says what its library does.

    python scripts/database_latency.py OUT

Builds a second library with MetaSchedule's own `MetaScheduleApplyDatabase` on ``OUT/tuning`` and
times it end to end in turns with ``OUT/model.so``.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click
from _tuned_run import read_run

from familyseer.export._compile import build_library
from familyseer.export._jobs import time_libraries
from familyseer.tvm_env import load_tvm


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--repeats", default=100, show_default=True)
def main(out: Path, repeats: int) -> None:
    """Time OUT/model.so and what TVM makes of OUT/tuning by itself."""
    run = read_run(out)
    tvm = load_tvm(intrinsics=True)
    with run.target:
        applied = tvm.relax.transform.MetaScheduleApplyDatabase(str(out / "tuning"))(run.fused)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "applied.so"
        build_library(applied, run.target, path)
        times = time_libraries(
            {"model.so": str(out / "model.so"), "MetaScheduleApplyDatabase": str(path)},
            run.device,
            run.inputs,
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
