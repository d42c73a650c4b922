"""Times SpAMM on this CPU against NumPy's BLAS, in turns on the same cores.

    python scripts/spamm_cpu.py --sizes 1024,4096 --ratios 0.05,0.1,0.25,0.5

Matrices decay exponentially from the diagonal. For each valid ratio `spamm.matmul` is timed from
plain arrays to the result, once with the tau of that ratio and once with the ratio itself, whose
tau it then has to find; and the parts of it: norms of both matrices, plan, product. A round times
each of these and the BLAS once, one after the other; speedups are medians of the rounds' ratios.
"""

from __future__ import annotations

import statistics
from typing import Any

import click
import numpy as np
from _results import save

import spamm
from spamm import cpu
from spamm._timing import in_turns
from spamm.cpu import _threads
from spamm.generators import exponential_decay


@click.command()
@click.option("--sizes", default="1024,2048,4096", show_default=True)
@click.option("--ratios", default="0.05,0.1,0.25,0.5", show_default=True)
@click.option("--rounds", default=7, show_default=True, help="Times each measurement is repeated.")
@click.option("--base", default=0.99, show_default=True, help="How fast the matrices decay.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--block", default=None, help="BM,BK,BN instead of the backend's choice.")
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(
    sizes: str,
    ratios: str,
    rounds: int,
    base: float,
    dtype: str,
    block: str | None,
    name: str | None,
) -> None:
    """Time products of N x N matrices at several valid ratios."""
    rows = []
    for n in _numbers(sizes):
        a = exponential_decay(n, base=base, dtype=dtype, seed=1)
        b = exponential_decay(n, base=base, dtype=dtype, seed=2)
        sides = _numbers(block) if block else cpu.default_block(n, n, n, a.dtype)
        for ratio in (float(text) for text in ratios.split(",")):
            rows.append(compare(a, b, ratio, tuple(sides), rounds))
            click.echo(describe(rows[-1]))
    if name is not None:
        click.echo(f"written: {save(name, {'base': base, 'dtype': dtype, 'rows': rows})}")


def compare(a: Any, b: Any, ratio: float, block: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Median milliseconds of everything at one valid ratio, and the speedups over the BLAS."""
    n = len(a)
    bm, bk, bn = block
    plan = spamm.plan(a, b, valid_ratio=ratio, block=block, backend="cpu")
    assert isinstance(plan, spamm.Plan)
    given: dict[str, Any] = {"block": block, "backend": "cpu"}
    out = np.empty((n, n), dtype=a.dtype)
    runs = {
        "blas": lambda: a @ b,
        "tau": lambda: spamm.matmul(a, b, tau=plan.tau, **given),
        "ratio": lambda: spamm.matmul(a, b, valid_ratio=ratio, **given),
        "norms": lambda: (cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)),
        "plan": lambda: spamm.build_plan(
            plan.norms_a, plan.norms_b, plan.shape, plan.block, plan.tau
        ),
        "product": lambda: cpu.multiply(a, b, plan, out),
    }
    seconds = in_turns(runs, rounds, pause_s=0.1)
    result: dict[str, Any] = {
        "n": n,
        "block": list(block),
        "threads": _threads.count(),
        "valid_ratio": plan.valid_ratio,
        "ms": {each: statistics.median(taken) * 1e3 for each, taken in seconds.items()},
    }
    for each in ("tau", "ratio"):
        speedups = [
            dense / ours for dense, ours in zip(seconds["blas"], seconds[each], strict=True)
        ]
        result[f"speedup_{each}"] = statistics.median(speedups)
        result[f"range_{each}"] = [min(speedups), max(speedups)]
    return result


def describe(row: dict[str, Any]) -> str:
    """One line for people."""
    ms = ", ".join(f"{name} {value:.1f}" for name, value in row["ms"].items())
    low, high = row["range_tau"]
    return (
        f"N {row['n']}, valid {row['valid_ratio']:.3f}: {row['speedup_tau']:.2f}x"
        f" ({low:.2f} to {high:.2f}), with tau to be found {row['speedup_ratio']:.2f}x;"
        f" ms: {ms}"
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
