"""Using what a run left in OUT: running its library on inputs, timing it."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.errors import UserError
from familyseer.export._jobs import run_library as run_in_process
from familyseer.export._jobs import time_libraries


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
    try:
        summary = json.loads(path.read_text())
        device, inputs = summary["device"], summary["inputs"]
        if not isinstance(device, str) or not isinstance(inputs, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        raise UserError(f"{path}: not the summary of a tuning run") from None
    return dict(summary)


def run_library(out: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs the tuned library once.

    Parameters
    ----------
    inputs
        One array for each input that summary.json names, of its shape and dtype.

    Raises
    ------
    UserError
        OUT holds no finished run, or an input is missing, unknown, or of another shape or dtype.
    """
    summary = read_summary(out)
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
    """
    from familyseer.models import InputSpec, example_inputs

    summary = read_summary(out)
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
