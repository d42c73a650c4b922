"""What a finished run of ours was about, read back from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from familyseer.export._compile import apply_records, best_records, build_library
from familyseer.models import example_inputs, load_model
from familyseer.records import RecordBook
from familyseer.subgraphs import Subgraph, fuse
from familyseer.tvm_env import load_tvm


@dataclass(frozen=True)
class TunedRun:
    """A run's model, fused, with what its library is timed on.

    Attributes
    ----------
    inputs
        Random ones, in the model's order.
    exact_math
        Whether its library leaves exp and the like to the C library.
    """

    name: str
    fused: Any
    target: Any
    device: str
    inputs: list[Any]
    exact_math: bool


def read_run(out: Path) -> TunedRun:
    """The run whose ``summary.json`` is in `out`; its model is loaded again."""
    summary = json.loads((out / "summary.json").read_text())
    target = load_tvm(intrinsics=True).target.Target(json.loads(summary["target"]))
    # as they were asked for: a huge model's weights are inputs of its library, and not the file's
    shapes = {name: tuple(dims) for name, dims in summary["options"]["input_shapes"].items()}
    model = load_model(
        summary["source"],
        input_shapes=shapes or None,
        seed=summary["seed"],
        precision=summary["options"]["precision"],
    )
    made = example_inputs(model.inputs, seed=0)
    inputs = [made[spec.name] for spec in model.inputs]
    return TunedRun(
        summary["model"],
        fuse(model.mod, target),
        target,
        summary["device"],
        inputs,
        # runs from before there was a choice had no other
        summary["options"].get("exact_math", True),
    )


def library_of(run: TunedRun, subgraphs: list[Subgraph], tuning: Path, path: Path) -> int:
    """Compiles the best of a database; returns how many subgraphs it has schedules for."""
    best = best_records(RecordBook(tuning), subgraphs)
    build_library(
        apply_records(run.fused, run.target, [records[0] for records in best.values()]),
        run.target,
        path,
        # as a run ships what it measured nothing of
        plainly=True,
        vector_math=not run.exact_math,
    )
    return len(best)
