"""summary.json: what a run did, in figures, and what is needed to repeat it."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict
from typing import Any

from familyseer.models import LoadedModel
from familyseer.options import TuneOptions
from familyseer.run._finish import Finished
from familyseer.run._header import plain_options
from familyseer.search import Clock, TaskState
from familyseer.versions import versions_of

_PACKAGES = ("familyseer", "apache-tvm", "apache-tvm-ffi", "xgboost", "numpy", "onnx")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run does."""
    return {"python": platform.python_version(), **versions_of(_PACKAGES)}


def output_specs(model: LoadedModel, outputs: list[Any] | None) -> list[dict[str, Any]]:
    """Name, shape and dtype of each output; the model file's names where it has them."""
    if outputs is None:
        return []
    names = [str(o.name) for o in model.onnx.graph.output] if model.onnx is not None else []
    if len(names) != len(outputs):
        names = [f"output{i}" for i in range(len(outputs))]
    return [
        {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        for name, array in zip(names, outputs, strict=True)
    ]


def _finite(value: float | None) -> float | None:
    """A number that JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def summarise(
    *,
    options: TuneOptions,
    model: LoadedModel,
    target: Any,
    device: str,
    states: list[TaskState],
    end: Finished,
    clock: Clock,
    stopped_by: str,
    outputs: list[Any] | None,
    trials_before: int,
    elapsed_before_s: float,
    covered_at_s: float | None,
    warm_start: list[dict[str, Any]],
    fleet: dict[str, Any] | None,
    gpus: list[dict[str, Any]] | None,
    precision: dict[str, Any] | None,
    spamm: dict[str, Any] | None,
) -> dict[str, Any]:
    """The contents of summary.json; times in the units that their names end with."""
    untuned_us = None if end.untuned_s is None else end.untuned_s * 1e6
    tuned_us = None if end.tuned_s is None else end.tuned_s * 1e6
    trials = sum(s.trials for s in states)
    return {
        "model": model.name,
        "source": model.source,
        "digest": model.digest,
        "target": str(target),
        "device": device,
        "versions": versions(),
        "seed": options.seed,
        # with the decision log and the records, all that `familyseer replay` needs
        "options": plain_options(options),
        "families": options.families,
        "budget_s": options.budget_s,
        "trial_limit": options.trials,
        "elapsed_s": round(clock.elapsed_s(), 3),
        "elapsed_before_s": round(elapsed_before_s, 3),
        "trials": trials,
        "trials_before": trials_before,
        "build_errors": sum(s.build_errors for s in states),
        "run_errors": sum(s.run_errors for s in states),
        "subgraphs": len(states),
        "covered": sum(s.covered for s in states),
        "spilling": [s.subgraph.name for s in states if s.spills],
        "covered_at_s": None if covered_at_s is None else round(covered_at_s, 3),
        "untuned_us": untuned_us,
        "tuned_us": tuned_us,
        "speedup": untuned_us / tuned_us if untuned_us and tuned_us else None,
        "max_abs_error": _finite(end.max_abs_error),
        "max_rel_error": _finite(end.max_rel_error),
        "max_rel_error_onnxruntime": _finite(end.max_rel_error_onnxruntime),
        "onnxruntime": end.onnxruntime,
        "fell_back": end.fell_back,
        "quarantined": end.quarantined,
        "unchecked": end.unchecked,
        "not_compared": end.not_compared,
        "stopped_by": stopped_by,
        "without": options.tactics.off(),
        "warm_start": warm_start,
        "fleet": fleet,
        "gpus": gpus,
        "precision": precision,
        "spamm": spamm,
        "phases_s": {name: round(spent, 3) for name, spent in clock.phases.items()},
        "inputs": [{**asdict(spec), "shape": list(spec.shape)} for spec in model.inputs],
        "outputs": output_specs(model, outputs),
    }
