"""The libraries of two runs timed in turns on this machine: what two runs' own figures are not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.export._jobs import time_libraries
from familyseer.export._manifest import check_manifest
from familyseer.export.use import input_specs, read_summary
from familyseer.measure import WorkerPool
from familyseer.models import InputSpec, example_inputs


def time_both(first: Path, second: Path, *, repeat: int = 20, seed: int = 0) -> dict[str, Any]:
    """Times two tuned libraries end to end, taking turns, on the same random inputs.

    Parameters
    ----------
    repeat
        Runs of each.
    seed
        Of the inputs.

    Returns
    -------
    dict
        ``first_us`` and ``second_us``, medians; ``ratio``, the median over turns of the first's
        time over the second's; ``repeats``.

    Raises
    ------
    UserError
        A folder holds no finished run or not the library that the run wrote, or the two libraries
        run on different devices or take different inputs.
    """
    summaries = [read_summary(folder) for folder in (first, second)]
    for folder in (first, second):
        check_manifest(folder)
    specs = [input_specs(summary) for summary in summaries]
    kinds = [[(one.name, one.shape, one.dtype) for one in inputs] for inputs in specs]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"--bench: {first} takes {_shown(specs[0])}, {second} takes {_shown(specs[1])}; "
            "expected two libraries of the same inputs"
        )
    devices = [summary["device"] for summary in summaries]
    if devices[0] != devices[1]:
        raise UserError(
            f"--bench: {first} is for {devices[0]}, {second} for {devices[1]}; "
            "expected two libraries for the same device"
        )
    made = example_inputs(specs[0], seed=seed)
    paths = {"first": str(first / "model.so"), "second": str(second / "model.so")}
    # a process of its own, since a wrong library may crash whoever runs it
    with WorkerPool(1) as pool:
        times = pool.submit(
            time_libraries,
            paths,
            devices[0],
            [made[spec.name] for spec in specs[0]],
            repeat,
            float("inf"),
        ).result()
    turns = zip(times["first"], times["second"], strict=True)
    return {
        "first_us": statistics.median(times["first"]) * 1e6,
        "second_us": statistics.median(times["second"]) * 1e6,
        "ratio": statistics.median(a / b for a, b in turns),
        "repeats": len(times["first"]),
    }


def _shown(specs: Sequence[InputSpec]) -> str:
    inputs = (f"{one.name} {one.dtype}{list(one.shape)}" for one in specs if one.weight is None)
    return ", ".join(inputs) or "nothing"
