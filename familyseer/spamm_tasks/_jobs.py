"""What workers do: build a configuration's kernel, time it. Called by name in another process.

A candidate is a JSON file: the configuration, its tau, and where the operands are. They are written
once by whoever tunes (`write_operands`) and read once by the process that times.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.measure._jobs import Refused
from familyseer.measure._timing import MOST_SETS, RunPlan, time_rotating
from familyseer.tvm_env import load_tvm

CANDIDATE = "candidate.json"
_OPERANDS = ("a.npy", "b.npy")
_DTYPE = "dtype"
# sums in another order differ by this much of a product's norm at most, in units of a last place
_ROUNDING = 1e3
_ROUNDING_HALF = 1e-2


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
    bound = product(*sets[0])
    check_product(sets[0][2], bound, *_reference(operands))
    return time_rotating(product, sets, plan)


def duel_on_cpu(paths: Mapping[str, str], kernels: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each of some candidates, measured in turns, a number a round."""
    from spamm._timing import in_turns

    runs = {}
    for name, path in paths.items():
        product, operands = _cpu_product(path, kernels)
        runs[name] = functools.partial(product, *_operand_sets(operands, 0)[0])
    return in_turns(runs, rounds)


def _cpu_product(path: str, kernels: str) -> tuple[Callable[[Any, Any, Any], float], str]:
    """What multiplies by a candidate and gives the bound on its error, and the operands' folder."""
    _use_cache(kernels)
    from spamm import build_plan, cpu

    document = json.loads(Path(path).read_text(encoding="utf-8"))
    dtype = (Path(document["operands"]) / _DTYPE).read_text(encoding="ascii")
    config = _cpu_config(document["config"], dtype)
    if config is None:
        raise ValueError(f"no kernel of this machine: {document['config']}")
    (bm, bk, bn), tau = config.block, float(document["tau"])

    def product(a: Any, b: Any, out: Any) -> float:
        norms = cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)
        shape = a.shape[0], a.shape[1], b.shape[1]
        plan = build_plan(*norms, shape, config.block, tau)
        cpu.multiply(a, b, plan, out, config)
        return float(plan.error_bound)

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


@functools.lru_cache(maxsize=1)
def _reference(folder: str) -> tuple[Any, float]:
    """The product by the configuration that is used without tuning, and its norm.

    It is multiplied in full: what candidates skip is then all of their error.
    """
    from spamm import build_plan, cpu
    from spamm.cpu._config import default_config, host_target

    a, b = read_operands(folder)
    config = default_config(a.dtype.name, host_target())
    bm, bk, bn = config.block
    norms = cpu.norms(a, bm, bk), cpu.norms(b, bk, bn)
    plan = build_plan(*norms, (a.shape[0], a.shape[1], b.shape[1]), config.block, 0.0)
    sums = np.float64 if a.dtype == np.float64 else np.float32
    out = np.empty((len(a), b.shape[1]), sums)
    cpu.multiply(a, b, plan, out, config)
    return out, float(np.linalg.norm(out))


def check_product(found: Any, bound: float, right: Any, size: float) -> None:
    """Sees to it that a candidate's product is as near to the full one as its plan promises.

    Parameters
    ----------
    bound
        On the Frobenius norm of the error, rounding apart.
    right, size
        The full product and its norm; one that is not finite tells nothing.

    Raises
    ------
    ValueError
        It is not.
    """
    if not np.isfinite(size):
        return
    rounding = (
        _ROUNDING_HALF if found.dtype.itemsize == 2 else _ROUNDING * np.finfo(found.dtype).eps
    )
    error = float(np.linalg.norm(found.astype(right.dtype, copy=False) - right))
    if not error <= bound + rounding * size:
        raise ValueError(f"wrong by {error:.2e}, and the plan's bound is {bound:.2e}")
