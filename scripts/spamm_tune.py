"""What tuning gains over the default configuration of SpAMM's CPU kernels, on this machine.

    python scripts/spamm_tune.py --size 4096 --ratios 0.1,0.25 --budget 3m

For each valid ratio the product of two matrices that decay exponentially from the diagonal is tuned
as `familyseer spamm tune` does, into a cache of its own. Then `spamm.matmul` itself is timed, with
that cache and with an empty one, one after the other in each round; the gain is the median of the
rounds' ratios. The default runs at the valid ratio; the tuned blocks run at the tau that keeps to
the same bound on the error. NumPy's BLAS is timed afterwards.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from _results import save

import spamm
from familyseer.duration import parse_duration
from familyseer.spamm_tasks import SpammOptions, tune_spamm
from spamm._norms import block_norms
from spamm._timing import in_turns
from spamm.generators import exponential_decay


@click.command()
@click.option("--size", default=4096, show_default=True)
@click.option("--ratios", default="0.1,0.25", show_default=True)
@click.option("--budget", default="3m", show_default=True, help="For each ratio.")
@click.option("--base", default=0.99, show_default=True, help="How fast the matrices decay.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--rounds", default=21, show_default=True, help="Times each measurement is repeated.")
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(
    size: int, ratios: str, budget: str, base: float, dtype: str, rounds: int, name: str | None
) -> None:
    """Tune a product at several valid ratios and time what was found."""
    a = exponential_decay(size, base=base, dtype=dtype, seed=1)
    b = exponential_decay(size, base=base, dtype=dtype, seed=2)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for ratio in (float(text) for text in ratios.split(",")):
            place = Path(folder) / f"{ratio:g}"
            rows.append(measure(a, b, ratio, parse_duration(budget), place, rounds))
            click.echo(describe(rows[-1]))
    if name is not None:
        click.echo(
            f"written: {save(name, {'n': size, 'base': base, 'dtype': dtype, 'rows': rows})}"
        )


def measure(
    a: Any, b: Any, ratio: float, budget_s: float, folder: Path, rounds: int
) -> dict[str, Any]:
    """Tunes at one valid ratio, then times the default and what was found in turns."""
    empty, kept = str(folder / "none"), str(folder / "kept")
    os.environ["SPAMM_CACHE"] = kept
    summary = tune_spamm(SpammOptions(folder / "out", ratio, budget_s=budget_s), a, b)
    taus = {}
    for cache, config in ((empty, summary["default_config"]), (kept, summary["config"])):
        bm, bk, bn = config["block"]
        norms = block_norms(a, bm, bk), block_norms(b, bk, bn)
        taus[cache] = spamm.tau_for_bound(*norms, summary["error_bound"])

    out = np.empty((len(a), b.shape[1]), a.dtype)

    def product(cache: str) -> None:
        os.environ["SPAMM_CACHE"] = cache
        spamm.matmul(a, b, tau=taus[cache], backend="cpu", out=out)

    # the BLAS's threads go on spinning for a while, so it takes no turns with what is compared
    pair = {"default": lambda: product(empty), "tuned": lambda: product(kept)}
    seconds = in_turns(pair, rounds)
    blas_s = statistics.median(in_turns({"blas": lambda: np.matmul(a, b, out=out)}, 3)["blas"])
    gains = _ratios(seconds["default"], seconds["tuned"])
    return {
        "valid_ratio": ratio,
        "tuned_valid_ratio": summary["valid_ratio"],
        "budget_s": budget_s,
        "trials": summary["trials"],
        "device": summary["device"],
        # what else the machine did: processes that ran or waited to, in the minute before
        "load_average": os.getloadavg()[0],
        "default_config": summary["default_config"],
        "config": summary["config"],
        "ms": {each: statistics.median(taken) * 1e3 for each, taken in seconds.items()},
        "gain": statistics.median(gains),
        "gain_quartiles": statistics.quantiles(gains, n=4)[::2],
        "blas_ms": blas_s * 1e3,
        "tuners_own_speedup": summary["speedup"],
    }


def describe(row: dict[str, Any]) -> str:
    """One line for people."""
    ms = ", ".join(f"{each} {value:.1f}" for each, value in row["ms"].items())
    low, high = row["gain_quartiles"]
    return (
        f"valid {row['valid_ratio']:g}: tuning gains {row['gain']:.2f}x ({low:.2f} to {high:.2f})"
        f" after {row['trials']} trials; ms: {ms}"
    )


def _ratios(before: list[float], after: list[float]) -> list[float]:
    return [one / other for one, other in zip(before, after, strict=True)]


if __name__ == "__main__":
    main()
