"""What exp, log, tanh, erf and sigmoids cost on this processor, one at a time and in vectors.

    python scripts/vector_math.py [OUT ...] [--stock OUT=DATABASE]

Each function is timed on numbers as networks have them (normally distributed) and on what a mask
makes of them (half at -1e9), a logarithm on their absolute values, in turns with the C library's.
Of each finished run in OUT the best records are compiled both ways, and the two libraries are timed
end to end in turns: the schedules are the same. Where stock MetaSchedule tuned the model too, its
database is taken into the turns.
What it writes: ``benchmarks/results/vector-math.json``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from _results import save
from _tuned_run import library_of, read_run

from familyseer.export._jobs import time_libraries
from familyseer.measure import WorkerPool
from familyseer.subgraphs import extract_subgraphs
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm
from familyseer.vector_math import vectorisable

ELEMENTS = 1 << 16
FUNCTIONS = ("exp", "log", "tanh", "erf", "sigmoid")


def kernels_of(name: str, target: Any) -> dict[str, Any]:
    """A function over an array, vectorised as a tuned schedule would be, built both ways."""
    tvm = load_tvm()
    te = tvm.te
    x = te.placeholder((ELEMENTS,), name="x")
    y = te.compute((ELEMENTS,), lambda i: getattr(tvm.tirx, name)(x[i]), name="y")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    schedule.vectorize(schedule.split(loop, [None, 64])[1])
    mods = {"C library": schedule.mod, "vectors": vectorisable(schedule.mod, target)}
    return {way: tvm.driver.build(mod, target=target)["main"] for way, mod in mods.items()}


def nanoseconds(kernels: dict[str, Any], numbers: Any, turns: int) -> dict[str, float]:
    """Median time of an element, the two ways in turns, on one core."""
    tvm = load_tvm()
    taken: dict[str, list[float]] = {way: [] for way in kernels}
    arguments = [tvm.runtime.tensor(numbers), tvm.runtime.empty(numbers.shape, "float32")]
    for turn in range(turns + 1):
        for way, kernel in kernels.items():
            started = time.perf_counter()
            kernel(*arguments)
            # the first one loads code
            if turn:
                taken[way].append((time.perf_counter() - started) / ELEMENTS * 1e9)
    return {way: statistics.median(times) for way, times in taken.items()}


def of_functions(turns: int) -> list[dict[str, Any]]:
    """Nanoseconds of an element of each function on each kind of data."""
    target = resolve_target(None)
    normal = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
    masked = np.where(np.arange(ELEMENTS) % 2 == 0, normal, np.float32(-1e9))
    rows = []
    for name in FUNCTIONS:
        kernels = kernels_of(name, target)
        for data, numbers in (("normal", normal), ("masked", masked)):
            if name == "log":
                numbers = np.abs(numbers)
            ns = nanoseconds(kernels, numbers, turns)
            rows.append({"function": name, "data": data, "ns": ns})
    return rows


def of_run(out: Path, stock: Path | None, repeats: int, pool: WorkerPool) -> dict[str, Any]:
    """Milliseconds of a run's model under its best records, and stock's, both ways."""
    run = read_run(out)
    subgraphs = extract_subgraphs(run.fused, run.target)
    databases = {"": out / "tuning"} | ({} if stock is None else {"stock, ": stock})
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, str] = {}
        for whose, database in databases.items():
            for way, exact in (("C library", True), ("vectors", False)):
                path = Path(folder) / f"{len(paths)}.so"
                library_of(replace(run, exact_math=exact), subgraphs, database, path)
                paths[whose + way] = str(path)
        times = pool.submit(time_libraries, paths, run.device, run.inputs, repeats, 120.0).result()
    ms = {way: statistics.median(found) * 1e3 for way, found in times.items()}
    return {"model": run.name, "ms": ms, "turns": min(len(found) for found in times.values())}


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--stock", multiple=True, metavar="OUT=DATABASE", help="Of a run's model, stock's.")
@click.option("--repeats", type=click.IntRange(min=1), default=100, show_default=True)
def main(runs: tuple[Path, ...], stock: tuple[str, ...], repeats: int) -> None:
    """Time the functions, and the models of the finished runs RUNS, both ways."""
    load_tvm(intrinsics=True)
    others = {Path(out): Path(database) for out, _, database in (s.partition("=") for s in stock)}
    functions = of_functions(repeats)
    for row in functions:
        click.echo(f"{row['function']:>8} {row['data']}: {row['ns']}")
    models = []
    with WorkerPool(1) as pool:
        for out in runs:
            models.append(of_run(out, others.get(out), repeats, pool))
            click.echo(models[-1])
    click.echo(f"written: {save('vector-math', {'functions': functions, 'models': models})}")


if __name__ == "__main__":
    main()
