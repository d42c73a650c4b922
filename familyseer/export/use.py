"""Using what a run left in OUT: running its library on inputs, timing it."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.errors import UserError
from familyseer.export._jobs import run_library as run_in_process
from familyseer.export._jobs import time_libraries
from familyseer.export._manifest import check_manifest
from familyseer.safe_json import load_json

_WHAT = "the summary of a tuning run"
_SIZE_LIMIT = 16 << 20
# of one array; more would not fit beside the model
_MOST_ELEMENTS = 2**31
_DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def read_summary(out: Path) -> dict[str, Any]:
    """OUT/summary.json.

    Raises
    ------
    UserError
        OUT holds no finished run, or the file is not what a run writes.
    """
    path = out / "summary.json"
    if not path.is_file() or not (out / "model.so").is_file():
        raise UserError(f"{out}: no finished tuning run here (expected model.so and summary.json)")
    summary = load_json(path, what=_WHAT, limit=_SIZE_LIMIT)
    if not (isinstance(summary, dict) and isinstance(summary.get("device"), str)):
        raise UserError(f"{path}: names no device, expected {_WHAT}")
    for name, least in (("inputs", None), ("outputs", [])):
        specs = summary.get(name, least)
        if not isinstance(specs, list) or not all(map(_is_spec, specs)):
            raise UserError(f"{path}: does not describe its {name}, expected {_WHAT}")
    return dict(summary)


def _is_spec(spec: Any) -> bool:
    """Whether it has a name, a shape and an element type that an array can have."""
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        return False
    shape, bound = spec.get("shape"), spec.get("index_bound")
    if not isinstance(shape, list) or len(shape) > 32:
        return False
    if not all(type(extent) is int and extent >= 0 for extent in shape):
        return False
    if bound is not None and not (type(bound) is int and bound >= 1):
        return False
    return math.prod(shape) <= _MOST_ELEMENTS and _is_dtype(spec.get("dtype"))


def _is_dtype(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    if name in _DTYPES:
        return True
    import ml_dtypes

    # bfloat16 and the small floats, which NumPy itself does not have
    found = getattr(ml_dtypes, name, None)
    return isinstance(found, type) and issubclass(found, np.generic)


def run_library(out: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs the tuned library once.

    Parameters
    ----------
    inputs
        One array for each input that summary.json names, of its shape and dtype.

    Raises
    ------
    UserError
        OUT holds no finished run or not the library that the run wrote, or an input is missing,
        unknown, or of another shape or dtype.
    """
    summary = read_summary(out)
    check_manifest(out)
    expected = {str(spec["name"]): spec for spec in summary["inputs"]}
    for name in inputs:
        if name not in expected:
            raise UserError(f"unknown input {name!r}: expected {', '.join(expected) or 'none'}")
    ordered = []
    for name, spec in expected.items():
        if name not in inputs:
            raise UserError(f"input {name!r} is missing: expected {_kind(spec)}")
        array = inputs[name]
        if list(array.shape) != list(spec["shape"]) or str(array.dtype) != spec["dtype"]:
            raise UserError(
                f"input {name!r} is {array.dtype}{list(array.shape)}: expected {_kind(spec)}"
            )
        ordered.append(array)
    results = run_in_process(str(out / "model.so"), summary["device"], ordered)
    names = [str(spec["name"]) for spec in summary.get("outputs", [])]
    if len(names) != len(results):
        names = [f"output{i}" for i in range(len(results))]
    return dict(zip(names, results, strict=True))


def _kind(spec: dict[str, Any]) -> str:
    return f"{spec['dtype']}{list(spec['shape'])}"


def bench_library(out: Path, repeat: int, seed: int) -> dict[str, Any]:
    """Times the tuned library on random inputs, whole-model runs.

    Returns
    -------
    dict
        ``median_us``, ``min_us``, ``p90_us``, ``repeats``, and ``untuned_us`` as the run measured
        it.

    Raises
    ------
    UserError
        OUT holds no finished run, or not the library that the run wrote.
    """
    from familyseer.models import InputSpec, example_inputs

    summary = read_summary(out)
    check_manifest(out)
    specs = [
        InputSpec(s["name"], tuple(s["shape"]), s["dtype"], s.get("index_bound"))
        for s in summary["inputs"]
    ]
    made = example_inputs(specs, seed=seed)
    arrays = [made[spec.name] for spec in specs]
    paths = {"tuned": str(out / "model.so")}
    times = time_libraries(paths, summary["device"], arrays, repeat, float("inf"))["tuned"]
    times_us = [t * 1e6 for t in times]
    return {
        "median_us": statistics.median(times_us),
        "min_us": min(times_us),
        "p90_us": float(np.percentile(times_us, 90)),
        "repeats": len(times_us),
        "untuned_us": summary.get("untuned_us"),
    }
