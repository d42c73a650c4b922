"""Times models with SpAMM's layers against the same models dense, in turns on the same cores.

    python scripts/spamm_in_models.py --budget 120s --save spamm-in-models

Each model is tuned twice for the same time, once with ``--spamm``; then the two libraries, and the
untuned dense one, take turns. Speedups are medians of the rounds' ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from _results import save
from _spamm_models import convolutional, decaying, dense, perceptron, pruned

from familyseer.duration import parse_duration
from familyseer.export._jobs import time_libraries
from familyseer.measure import WorkerPool
from familyseer.models import example_inputs
from familyseer.models.specs import InputSpec


def models() -> dict[str, Any]:
    """The models by name."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    return {
        "perceptron, 10 % of blocks left": perceptron(pruned(rng())),
        "perceptron, decaying weights": perceptron(decaying(rng())),
        "perceptron, dense weights": perceptron(dense(rng())),
        "convolutions, 10 % of blocks left": convolutional(pruned(rng())),
        "convolutions, dense weights": convolutional(dense(rng())),
    }


@click.command()
@click.option("--budget", default="120s", show_default=True, help="Of each of the tuning runs.")
@click.option("--max-rel-error", default=1e-3, show_default=True)
@click.option("--rounds", default=31, show_default=True, help="Times each library is run.")
@click.option("--only", multiple=True, help="Models whose names hold this; may be repeated.")
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(
    budget: str, max_rel_error: float, rounds: int, only: tuple[str, ...], name: str | None
) -> None:
    """Tune models with and without SpAMM, and time what comes out."""
    rows = []
    for title, model in models().items():
        if only and not any(each in title for each in only):
            continue
        with tempfile.TemporaryDirectory(prefix="spamm-in-models-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            rows.append({"model": title, **compare(path, budget, max_rel_error, rounds)})
        click.echo(describe(rows[-1]))
    if name is not None:
        result = {"budget_s": parse_duration(budget), "max_rel_error": max_rel_error, "rows": rows}
        click.echo(f"written: {save(name, result)}")


def compare(path: Path, budget: str, max_rel_error: float, rounds: int) -> dict[str, Any]:
    """What SpAMM did to a model, and median microseconds and speedup of its library."""
    common = [str(path), "--budget", budget, "--json", "--quiet"]
    spamm = _tune(*common, "-o", "with", "--spamm", "--max-rel-error", str(max_rel_error), at=path)
    without = _tune(*common, "-o", "without", at=path)
    found = spamm["spamm"]
    specs = [InputSpec(s["name"], tuple(s["shape"]), s["dtype"], None) for s in spamm["inputs"]]
    inputs = list(example_inputs(specs).values())
    libraries = {each: str(path.parent / each / "model.so") for each in ("with", "without")}
    pool = WorkerPool(1)
    try:
        times = pool.submit(time_libraries, libraries, "cpu", inputs, rounds, 60.0).result()
    finally:
        pool.close()
    ratios = [b / a for a, b in zip(times["with"], times["without"], strict=True)]
    return {
        "layers": [
            {key: layer.get(key) for key in ("op", "shape", "block", "tau", "valid_ratio")}
            for layer in found["layers"]
        ],
        "note": found["note"],
        "error": found["max_rel_error"],
        "spamm_us": statistics.median(times["with"]) * 1e6,
        "dense_tuned_us": statistics.median(times["without"]) * 1e6,
        "dense_untuned_us": without["untuned_us"],
        "speedup": statistics.median(ratios),
        "speedup_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "trials": {"spamm": spamm["trials"], "dense": without["trials"]},
    }


def _tune(*arguments: str, at: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "familyseer.cli", "tune", *arguments]
    ran = subprocess.run(command, cwd=at.parent, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise click.ClickException(ran.stderr)
    summary: dict[str, Any] = json.loads(ran.stdout)
    return summary


def describe(row: dict[str, Any]) -> str:
    """One line for people."""
    ratios = ", ".join(f"{layer['valid_ratio']:.3f}" for layer in row["layers"])
    did = f"valid ratios {ratios}, error {row['error']:.2g}" if ratios else row["note"]
    low, high = row["speedup_quartiles"]
    return (
        f"{row['model']}: {row['dense_tuned_us']:.0f} us tuned dense, {row['spamm_us']:.0f} us with"
        f" SpAMM, {row['speedup']:.2f}x ({low:.2f} to {high:.2f}); {did}"
    )


if __name__ == "__main__":
    main()
