"""What workers do: build a configuration's kernel, time it. Called by name in another process.

A candidate is a JSON file: the configuration, its tau, and where the operands are. They are written
once by whoever tunes (`write_operands`) and read once by the process that times.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.measure._jobs import Refused
from familyseer.measure._timing import MOST_SETS, RunPlan
from familyseer.tvm_env import load_tvm

CANDIDATE = "candidate.json"
_OPERANDS = ("a.npy", "b.npy")
_DTYPE = "dtype"
# sums in another order differ by this much of a product's norm at most, in units of a last place
_ROUNDING = 1e3
_ROUNDING_HALF = 1e-2
_ROWS_CHECKED, _COLUMNS_CHECKED = 4, 16
# candidates that this process has found right: those that seem the best are timed several times
_CHECKED: set[str] = set()


def write_operands(folder: Path, a: Any, b: Any) -> None:
    """Leaves a problem's matrices for the workers.

    Raises
    ------
    OSError
        There is no room for them.
    """
    for name, matrix in zip(_OPERANDS, (a, b), strict=True):
        # NumPy's files know no bfloat16
        plain = np.ascontiguousarray(matrix)
        narrow = plain.dtype.itemsize == 2
        np.save(folder / name, plain.view(np.uint16) if narrow else plain, allow_pickle=False)
    (folder / _DTYPE).write_text(a.dtype.name, encoding="ascii")


def write_candidate(own: str, config: Mapping[str, Any], tau: float, operands: str) -> str:
    """Writes a candidate's file in a folder of its own and gives its path."""
    path = os.path.join(own, CANDIDATE)
    document = {"config": dict(config), "tau": tau, "operands": operands}
    Path(path).write_text(json.dumps(document), encoding="utf-8")
    return path


def build_on_cpu(
    config: Mapping[str, Any], tau: float, dtype: str, own: str, kernels: str, operands: str
) -> tuple[str, float] | Refused:
    """Compiles a kernel, unless an earlier candidate shares it, and writes the candidate's file.

    Parameters
    ----------
    own
        The candidate's own folder, which is removed with it.
    kernels
        A folder for compiled kernels, in place of the user's: only the best one's are worth
        keeping.

    Returns
    -------
    The candidate's path and the seconds it took.
    """
    began = time.perf_counter()
    _use_cache(kernels)
    from spamm.cpu._build import compiled_kernel

    made = _cpu_config(config, dtype)
    if made is None:
        return Refused(f"no kernel of this machine: {json.dumps(dict(config))}")
    compiled_kernel(made, dtype)
    return write_candidate(own, config, tau, operands), time.perf_counter() - began


def run_on_cpu(path: str, kernels: str, plan: RunPlan) -> list[float]:
    """Times a candidate, planning included, and gives seconds a product, one figure a repeat.

    What is timed is `spamm.matmul` with a given tau: norms, plan, product. Between two runs as much
    other data is touched as `plan` says, so that the operands are not found in the caches.

    Raises
    ------
    ValueError
        The product is wrong.
    """
    product, operands = _cpu_product(path, kernels)
    sets = _operand_sets(operands, plan.working_set_bytes)
    if path not in _CHECKED:
        a, b, out = sets[0]
        check_product(out, product(a, b, out), a, b)
        _CHECKED.add(path)
    return time_product(product, sets, plan)


def time_product(
    product: Callable[..., object],
    sets: Sequence[Sequence[Any]],
    plan: RunPlan,
    finish: Callable[[], object] = lambda: None,
) -> list[float]:
    """Seconds a product, one figure a repeat, or one in all where it cannot become the best.

    As `familyseer.measure._timing.time_rotating` for what takes a hundred times as long as a
    subgraph: no run is made that is not counted, unless one of the first two was disturbed.

    Parameters
    ----------
    product
        Has run before; called with the next set of operands each time.
    finish
        Waits for a device to be done, before each start and each end.
    """
    turns = cycle(sets)

    def timed(runs: int) -> float:
        finish()
        began = time.perf_counter()
        for each in islice(turns, runs):
            product(*each)
        finish()
        return (time.perf_counter() - began) / runs

    first = timed(1)
    if plan.hopeless(first):
        first = min(first, timed(1))
    if plan.hopeless(first):
        return [first]
    runs = plan.runs(first)
    done = [first] if runs == 1 else []
    return done + [timed(runs) for _ in range(plan.repeats - len(done))]


def duel_on_cpu(paths: Mapping[str, str], kernels: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each of some candidates, measured in turns, a number a round."""
    from spamm._timing import in_turns

    runs = {}
    for name, path in paths.items():
        product, operands = _cpu_product(path, kernels)
        runs[name] = functools.partial(product, *_operand_sets(operands, 0)[0])
    return in_turns(runs, rounds)


def _cpu_product(path: str, kernels: str) -> tuple[Callable[[Any, Any, Any], Any], str]:
    """What multiplies by a candidate and gives its plan, and the operands' folder."""
    _use_cache(kernels)
    from spamm import build_plan, cpu

    document = json.loads(Path(path).read_text(encoding="utf-8"))
    dtype = (Path(document["operands"]) / _DTYPE).read_text(encoding="ascii")
    config = _cpu_config(document["config"], dtype)
    if config is None:
        raise ValueError(f"no kernel of this machine: {document['config']}")
    (bm, bk, bn), tau = config.block, float(document["tau"])

    def product(a: Any, b: Any, out: Any) -> Any:
        norms = cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)
        shape = a.shape[0], a.shape[1], b.shape[1]
        plan = build_plan(*norms, shape, config.block, tau)
        cpu.multiply(a, b, plan, out, config)
        return plan

    return product, str(document["operands"])


def _cpu_config(values: Mapping[str, Any], dtype: str) -> Any:
    load_tvm()
    from spamm.cpu._choice import config_from

    return config_from(dict(values), dtype)


def _use_cache(kernels: str) -> None:
    os.environ["XDG_CACHE_HOME"] = kernels


@functools.lru_cache(maxsize=1)
def read_operands(folder: str) -> tuple[Any, Any]:
    """The matrices that `write_operands` left."""
    name = (Path(folder) / _DTYPE).read_text(encoding="ascii")
    if name == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(name)
    a, b = (np.load(Path(folder) / each, allow_pickle=False) for each in _OPERANDS)
    return a.view(dtype), b.view(dtype)


@functools.lru_cache(maxsize=1)
def _operand_sets(folder: str, touched_bytes: int) -> list[list[Any]]:
    """Sets of A, B and C, as large together as what is touched between two products."""
    a, b = read_operands(folder)
    size = a.nbytes + b.nbytes + len(a) * b.shape[1] * a.itemsize
    copies = min(MOST_SETS, -(-touched_bytes // max(size, 1)))
    first = [a, b, np.empty((len(a), b.shape[1]), a.dtype)]
    return [first, *([a.copy(), b.copy(), np.empty_like(first[2])] for _ in range(copies - 1))]


def check_product(found: Any, plan: Any, a: Any, b: Any, *, tf32: bool = False) -> None:
    """Compares some blocks of C, spread evenly and the edges among them, with NumPy's product.

    Parameters
    ----------
    found
        What a candidate has made of a and b.
    plan
        The `spamm.Plan` that says which products it had to add up.
    tf32
        Whether the operands were rounded to 10 bits of mantissa.

    Raises
    ------
    ValueError
        They differ by more than rounding.
    """
    (mb, _, nb), (bm, bk, bn), wide = plan.grid, plan.block, np.float64
    error = size = np.float64(0)
    for i in _spread(mb, _ROWS_CHECKED):
        here = slice(i * bm, (i + 1) * bm)
        rows = a[here].astype(wide)
        for j in _spread(nb, _COLUMNS_CHECKED):
            there = slice(j * bn, (j + 1) * bn)
            ks = plan.ks[plan.offsets[i * nb + j] : plan.offsets[i * nb + j + 1]]
            used = (ks[:, None].astype(np.int64) * bk + np.arange(bk)).ravel()
            used = used[used < a.shape[1]]
            right = rows[:, used] @ b[used, there].astype(wide)
            error = np.hypot(error, np.linalg.norm(found[here, there].astype(wide) - right))
            size = np.hypot(size, np.linalg.norm(right))
    coarse = tf32 or found.dtype.itemsize == 2
    rounding = _ROUNDING_HALF if coarse else _ROUNDING * np.finfo(a.dtype).eps
    # what is not finite tells nothing
    if np.isfinite(size) and not error <= rounding * size:
        raise ValueError(f"the product is wrong by {error / max(size, 1e-300):.1e} of its norm")


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most))})
