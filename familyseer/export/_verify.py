"""Whether a tuned library computes what the untuned one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# relative to the largest magnitude of an output; a schedule may only change the order of sums.
# Wide, since a whole model amplifies rounding by an unknown factor: `familyseer.check` is strict
TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


def tolerance(dtype: str) -> float:
    """The largest relative error of a right result; 0 for integers and booleans."""
    return TOLERANCE.get(dtype, 0.0)


def absolute_error(got: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest absolute difference; infinity where shapes, NaNs or infinities do not agree."""
    if got.shape != reference.shape:
        return float("inf")
    if got.size == 0:
        return 0.0
    a, b = got.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return float("inf")
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    return float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))


def relative_error(got: NDArray[Any], reference: NDArray[Any]) -> float:
    """`absolute_error` over the largest finite magnitude of the reference."""
    difference = absolute_error(got, reference)
    if difference == 0.0:
        return 0.0
    b = np.abs(reference.astype(np.float64))
    largest = float(np.max(b, where=np.isfinite(b), initial=0.0))
    return difference / largest if largest > 0 else float("inf")


def all_finite(outputs: Sequence[NDArray[Any]]) -> bool:
    """Whether no element of any output is NaN or infinite."""
    return all(bool(np.isfinite(one.astype(np.float64)).all()) for one in outputs)


def compare_outputs(
    got: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]], computed_in: str = ""
) -> tuple[float, float, bool]:
    """Largest absolute and relative error over all outputs, and whether all are right.

    Parameters
    ----------
    computed_in
        The shortest type inside the model: an output is no better than what it came from.
    """
    if len(got) != len(reference):
        return float("inf"), float("inf"), False
    worst_abs = worst_rel = 0.0
    right, inside = True, tolerance(computed_in)
    for a, b in zip(got, reference, strict=True):
        relative = relative_error(a, b)
        worst_abs = max(worst_abs, absolute_error(a, b))
        worst_rel = max(worst_rel, relative)
        right = right and relative <= max(tolerance(str(b.dtype)), inside)
    return worst_abs, worst_rel, right
