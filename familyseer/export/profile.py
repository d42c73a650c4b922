"""Where a tuned library's time goes: every subgraph inside the whole model, beside its candidate.

A candidate is timed alone, on random data. Where the same schedule takes longer in the model, the
reason is no longer the search's to find: operands that come from memory instead of caches, other
data, the work around the kernels.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from familyseer.export._jobs import time_calls
from familyseer.report import _facts as facts
from familyseer.report._read import read_run

_RUNTIME = "vm.builtin"


def time_subgraphs(out: Path, device: str, inputs: list[Any], repeat: int) -> list[dict[str, Any]]:
    """Times each function of the tuned library within whole-model runs.

    Timing a call takes a few microseconds itself, a part of which is in the call's time; the sum of
    all is more than the latency of the library, and much more where the functions are tiny.

    Parameters
    ----------
    out
        Of a finished run whose library is the one that it wrote.
    device, inputs
        Where the library runs, and an array an input, in its order.
    repeat
        Whole-model runs.

    Returns
    -------
    list of dict
        What takes longest first. ``name``, the function's, or ``vm.builtin`` for all that TVM's
        virtual machine does between the kernels; ``family``, None if it is no subgraph; ``calls``
        in a run; ``us``, the median over runs of all its calls together; ``share`` of the sum;
        ``candidate_us``, as many calls of the candidate that it was compiled from, as the tuning
        run timed it, None if it was compiled from none.
    """
    times = time_calls(str(out / "model.so"), device, inputs, repeat)
    candidates = _candidates(out)
    rows: list[dict[str, Any]] = []
    for name, runs in _merged(times).items():
        calls = len(runs[0])
        family, best_us = candidates.get(name, (None, None))
        rows.append(
            {
                "name": name,
                "family": family,
                "calls": calls,
                "us": statistics.median(map(sum, runs)) * 1e6,
                "candidate_us": None if best_us is None else best_us * calls,
            }
        )
    total = sum(row["us"] for row in rows)
    for row in rows:
        row["share"] = row["us"] / total
    return sorted(rows, key=lambda row: -row["us"])


def _merged(times: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
    """The virtual machine's own functions as one."""
    merged: dict[str, list[list[float]]] = {}
    for name, runs in times.items():
        own = name.startswith(f"{_RUNTIME}.")
        into = merged.setdefault(_RUNTIME if own else name, [[] for _ in runs])
        for together, calls in zip(into, runs, strict=True):
            together.extend(calls)
    return merged


def _candidates(out: Path) -> dict[str, tuple[str, float | None]]:
    """By the function's name: its family, and the best candidate in microseconds."""
    run = read_run(out)
    fell_back = facts.mapping(run.summary, "fell_back")
    found: dict[str, tuple[str, float | None]] = {}
    for family in run.families:
        for one in family["subgraphs"]:
            schedule = None if one["name"] in fell_back else run.schedules.get(one["key"])
            found[one["name"]] = family["name"], None if schedule is None else schedule.run_us
    return found
