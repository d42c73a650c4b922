"""What a shorter type costs in accuracy: its untuned library against the float32 model's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.errors import UserError
from familyseer.export import _jobs
from familyseer.export._compile import build_library
from familyseer.export._verify import compare_outputs
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.models import LoadedModel
from familyseer.run._reference import Reference
from familyseer.search import Clock
from familyseer.subgraphs import fuse
from familyseer.target import this_cpu


def check_precision(
    model: LoadedModel, reference: Reference, pool: Any, clock: Clock, max_rel_error: float
) -> dict[str, Any] | None:
    """How far a model in a shorter type is from the same model in float32.

    The float32 model is run by TVM on this machine's CPU, whatever the target.

    Returns
    -------
    dict or None
        ``dtype`` and ``max_rel_error`` (relative to an output's largest magnitude; None if there
        was no time for it); None for a model in its own precision.

    Raises
    ------
    UserError
        The error is above `max_rel_error`, or numbers overflowed.
    """
    if model.exact is None:
        return None
    told: dict[str, Any] = {"dtype": model.precision, "max_rel_error": None}
    if reference.outputs is None:
        return told
    target = this_cpu()
    with tempfile.TemporaryDirectory(prefix="familyseer-exact-") as folder:
        path = Path(folder) / "exact.so"
        build_library(fuse(model.exact, target), target, path)
        running = pool.submit(_jobs.run_library, str(path), "cpu", reference.inputs)
        try:
            exact = await_future(running, clock.left_s)
        except OutOfTimeError:
            return told
    error = compare_outputs(reference.outputs, exact)[1]
    if not error <= max_rel_error:
        found = f"is off by {error:.2g} of float32" if np.isfinite(error) else "overflows"
        raise UserError(
            f"{model.source}: in {model.precision} the model {found}; expected at most "
            f"{max_rel_error:g} (--max-rel-error), or --precision float32"
        )
    told["max_rel_error"] = error
    return told
