"""Times SpAMM on this CPU against NumPy's BLAS, in turn on the same cores.

    python scripts/spamm_cpu.py --sizes 1024,4096 --ratios 0.05,0.1,0.25,0.5

Matrices decay exponentially from the diagonal. For each valid ratio tau is looked for once, then
block norms, plan and product are timed together, from plain arrays to the result; the parts are
timed in the same rounds. A round times the BLAS and every ratio once, one after the other, so
that what disturbs the machine disturbs all of them alike; speedups are medians of the rounds'.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import click
import numpy as np
from _results import save

from spamm import cpu
from spamm._plan import build_plan
from spamm._select import tau_for_valid_ratio
from spamm.cpu import _threads
from spamm.generators import exponential_decay

PARTS = ("norms", "plan", "product")


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
        given = None if block is None else _numbers(block)
        rows += compare(n, [float(r) for r in ratios.split(",")], rounds, base, dtype, given)
    if name is not None:
        click.echo(f"written: {save(name, {'base': base, 'dtype': dtype, 'rows': rows})}")


def compare(
    n: int,
    ratios: list[float],
    rounds: int,
    base: float,
    dtype: str,
    block: list[int] | None,
) -> list[dict[str, Any]]:
    """One row a ratio: seconds of each part and of the BLAS, medians, and the median speedup."""
    a = exponential_decay(n, base=base, dtype=dtype, seed=1)
    b = exponential_decay(n, base=base, dtype=dtype, seed=2)
    bm, bk, bn = block or cpu.default_block(n, n, n, a.dtype)
    norms_a, norms_b = cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)
    taus = [tau_for_valid_ratio(norms_a, norms_b, ratio) for ratio in ratios]
    blas: list[float] = []
    spans: list[list[list[float]]] = [[] for _ in taus]
    valid = [0.0 for _ in taus]
    for number in range(rounds + 1):
        start = time.perf_counter()
        a @ b
        blas.append(time.perf_counter() - start)
        for index, tau in enumerate(taus):
            marks = [time.perf_counter()]
            norms_a, norms_b = cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)
            marks.append(time.perf_counter())
            plan = build_plan(norms_a, norms_b, (n, n, n), (bm, bk, bn), tau)
            marks.append(time.perf_counter())
            out = np.empty((n, n), dtype=dtype)
            cpu.multiply(a, b, plan, out)
            marks.append(time.perf_counter())
            spans[index].append(np.diff(marks).tolist())
            valid[index] = plan.valid_ratio
        if number == 0:  # compiles, starts threads
            blas.clear()
            for each in spans:
                each.clear()
    rows = [_row(n, (bm, bk, bn), valid[i], blas, spans[i]) for i in range(len(taus))]
    for row in rows:
        parts = ", ".join(f"{part} {row[part + '_s'] * 1e3:.1f} ms" for part in PARTS)
        click.echo(
            f"N {n}, block {row['block']}, valid {row['valid_ratio']:.3f}: {row['speedup']:.2f}x"
            f" (range {row['speedup_range'][0]:.2f} to {row['speedup_range'][1]:.2f}),"
            f" BLAS {row['blas_s'] * 1e3:.1f} ms, {parts}"
        )
    return rows


def _row(
    n: int, block: tuple[int, int, int], valid: float, blas: list[float], spans: list[list[float]]
) -> dict[str, Any]:
    speedups = [dense / sum(parts) for dense, parts in zip(blas, spans, strict=True)]
    medians = [statistics.median(part) for part in zip(*spans, strict=True)]
    return {
        "n": n,
        "block": list(block),
        "threads": _threads.count(),
        "valid_ratio": valid,
        "blas_s": statistics.median(blas),
        **{f"{part}_s": median for part, median in zip(PARTS, medians, strict=True)},
        "speedup": statistics.median(speedups),
        "speedup_range": [min(speedups), max(speedups)],
    }


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
