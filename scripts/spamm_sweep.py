"""SpAMM against dense and sparse products, over sizes, valid ratios, types and decays.

    python scripts/spamm_sweep.py --device cpu --sizes 1024,2048,4096
    python scripts/spamm_sweep.py --device gpu --sizes 4096,8192,16384 --dtypes float16,tf32

Dense is NumPy's BLAS (float32 for narrower types, converted before) or cuBLAS; sparse is
scipy.sparse's CSR product (one thread) or cuSPARSE's in float32, of the matrices without the
entries below the threshold at which that product is as wrong as SpAMM's; making CSR is not counted.
All are run in turns; figures are medians over rounds, speed-ups medians of the rounds' ratios.
Writes ``benchmarks/results/NAME.json`` after every case, and goes on from what is there.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import click
import numpy as np
from _results import RESULTS, machine, save
from _spamm_cases import DECAYS, DTYPES, Case, as_wrong, matrices, multiplications
from _spamm_gpu import Device, find_device

import spamm
from spamm._timing import in_turns

# at about 10^8 a second, what a round may spend on scipy.sparse
_MOST_MULTIPLICATIONS = 2 * 10**9
# what dense products differ by
_ROUNDING = {"float16": 2e-3, "bfloat16": 2e-2, "tf32": 2e-3, "float32": 1e-5, "float64": 1e-13}
# no product of float32 is more exact than that
_LEAST_ERROR = 1e-6
_SHORTEST_S = 2e-2


def measure(case: Case, block: int | None, repeats: int, device: Device | None) -> dict[str, Any]:
    """All figures of one case."""
    made = matrices(case.decay, case.size, case.dtype)
    tf32 = case.dtype == "tf32"
    how: dict[str, Any] = {"backend": "cpu" if device is None else "cuda"}
    if tf32:
        how["precision"] = "tf32"
    a, b = made if device is None else [device.put(x) for x in made]
    if device is None:
        left, right = (
            x if x.dtype == np.float64 else x.astype(np.float32, copy=False) for x in made
        )
        whole = np.empty((left.shape[0], right.shape[1]), left.dtype)
        out = np.empty_like(whole)
    else:
        whole, out = (device.empty((a.shape[0], b.shape[1]), a) for _ in range(2))

    def dense() -> None:
        if device is None:
            np.matmul(left, right, out=whole)
        else:
            device.dense(a, b, whole, tf32)

    plan: Any = spamm.plan(a, b, valid_ratio=case.valid_ratio, block=block, **how)
    how_again = {"block": plan.block, **how}
    runs: dict[str, Any] = {
        "dense": dense,
        "plan": lambda: spamm.plan(a, b, tau=plan.tau, **how_again),
        "plan_by_ratio": lambda: spamm.plan(a, b, valid_ratio=case.valid_ratio, **how_again),
        "multiply": lambda: spamm.multiply(plan, a, b, out=out, **how),
    }
    runs["dense"]()
    runs["multiply"]()
    truth, got = (x if device is None else device.get(x) for x in (whole, out))
    size = float(np.linalg.norm(truth))
    found: dict[str, Any] = {
        "block": plan.block,
        "tau": plan.tau,
        "valid_ratio": plan.valid_ratio,
        "rel_error": float(np.linalg.norm(got - truth)) / size,
        "rel_error_bound": plan.error_bound / size,
    }
    allowed = found["rel_error_bound"] + _ROUNDING[case.dtype]
    if found["rel_error"] > allowed:
        raise click.ClickException(f"{case.key}: wrong by {found['rel_error']:.1e} > {allowed:.1e}")
    sparse, told = sparse_run(as_wrong(*made, max(found["rel_error"], _LEAST_ERROR)), device)
    if sparse is not None:
        runs["sparse"] = sparse
    finish = (lambda: None) if device is None else device.wait
    times = in_turns(runs, repeats, finish=finish, shortest_s=_SHORTEST_S)
    return {**case._asdict(), **found, **told, **summary(times)}


def sparse_run(pair: Any, device: Device | None) -> tuple[Any, dict[str, Any]]:
    """The sparse product of a pair, and what there is to tell of it; None where it cannot be."""
    count = multiplications(*pair)
    told: dict[str, Any] = {
        "sparse_density": [float(x.nnz / np.prod(x.shape)) for x in pair],
        "sparse_multiplications": count,
    }
    if device is None:
        if count > _MOST_MULTIPLICATIONS:
            return None, {**told, "sparse_why_not": "too many multiplications to wait for"}
        return (lambda: pair[0] @ pair[1]), told
    try:
        left, right = (device.to_csr(device.put(x.toarray())) for x in pair)
        device.sparse(left, right)
        device.wait()
    except Exception as error:  # what cuSPARSE lacks memory for, only it can tell
        return None, {**told, "sparse_why_not": str(error).partition("\n")[0][:200]}
    return (lambda: device.sparse(left, right)), told


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians in milliseconds, and of the rounds' ratios."""

    def ratio(over: str, *under: str) -> float:
        sums = [sum(parts) for parts in zip(*(times[name] for name in under), strict=True)]
        return float(median(x / y for x, y in zip(times[over], sums, strict=True)))

    found = {f"{name}_ms": median(seconds) * 1e3 for name, seconds in times.items()}
    found["speedup"] = ratio("dense", "plan", "multiply")
    found["speedup_by_ratio"] = ratio("dense", "plan_by_ratio", "multiply")
    found["speedup_multiply"] = ratio("dense", "multiply")
    if "sparse" in times:
        found["speedup_over_sparse"] = ratio("sparse", "plan", "multiply")
    return found


def table(cases: dict[str, Any]) -> list[str]:
    """A line a case."""
    head = ("case", "dense ms", "plan", "multiply", "speed-up", "by ratio", "of sparse", "error")
    rows = [
        (
            key,
            *(f"{found[name]:.2f}" for name in ("dense_ms", "plan_ms", "multiply_ms")),
            *(f"{found[name]:.2f}" for name in ("speedup", "speedup_by_ratio")),
            f"{found['speedup_over_sparse']:.1f}" if "speedup_over_sparse" in found else "-",
            f"{found['rel_error']:.1e}",
        )
        for key, found in cases.items()
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]


def earlier(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The cases of a results file of this machine with these settings."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    same = document["machine"]["cpu"] == machine()["cpu"] and document["settings"] == settings
    if not same:
        raise click.UsageError(f"{path} is of another machine or other settings; name another")
    cases: dict[str, Any] = document["cases"]
    return cases


def _listed(kind: Any) -> Any:
    return lambda _ctx, _parameter, text: [kind(part) for part in text.split(",")]


@click.command()
@click.option("--device", "where", type=click.Choice(["cpu", "gpu"]), default="cpu")
@click.option("--sizes", default="1024,2048,4096", callback=_listed(int), show_default=True)
@click.option(
    "--valid-ratios",
    default="0.05,0.1,0.15,0.2,0.25,0.3",
    callback=_listed(float),
    show_default=True,
)
@click.option("--dtypes", default="float32", callback=_listed(str), help=",".join(DTYPES))
@click.option("--decays", default=",".join(DECAYS), callback=_listed(str), show_default=True)
@click.option("--block", type=int, help="Block size.  [default: the backend's]")
@click.option("--repeats", default=7, show_default=True)
@click.option("--name", help="Of the results.  [default: spamm-sweep-cpu or -gpu]")
def main(
    where: str,
    sizes: list[int],
    valid_ratios: list[float],
    dtypes: list[str],
    decays: list[str],
    block: int | None,
    repeats: int,
    name: str | None,
) -> None:
    """Measure every combination that the results do not hold yet."""
    device = find_device() if where == "gpu" else None
    name = name or f"spamm-sweep-{where}"
    settings = {"block": block, "repeats": repeats, "gpu": device and device.name}
    cases = earlier(name, settings)
    wanted = [
        Case(decay, size, dtype, ratio)
        for decay in decays
        for size in ([0] if decay == "im2col" else sizes)
        for dtype in dtypes
        for ratio in valid_ratios
    ]
    for case in wanted:
        if case.key in cases:
            continue
        click.echo(case.key, err=True)
        try:
            cases[case.key] = measure(case, block, repeats, device)
        except (ValueError, NotImplementedError) as error:
            # such as a ratio that these norms cannot give
            click.echo(f"  not measured: {error}", err=True)
            continue
        save(name, {"settings": settings, "cases": cases})
    click.echo("\n".join(table({c.key: cases[c.key] for c in wanted if c.key in cases})))


if __name__ == "__main__":
    main()
