"""Whether a result is the reference's, up to what a right schedule may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# of the bounds on rounding; sampled schedules of whole networks stay below an eighth of what these
# allow, and more would hide missing terms in sums kept in small types
ROUNDING_FACTOR = 4.0
MOVED_FACTOR = 2.0
# integers made from floating-point numbers may be rounded the other way, this share of them
FLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Allowed:
    """What may differ in one output for one kind of input.

    Attributes
    ----------
    relative
        Relative error of rounding (`Rounding.error`).
    moved
        How far the reference itself moved when its inputs were moved by that relative error.
    floor
        A difference that is always allowed: results this small may be flushed to zero.
    flips
        Of an integer output: elements that may differ.
    """

    relative: float = 0.0
    moved: float = 0.0
    floor: float = 0.0
    flips: int = 0


@dataclass(frozen=True)
class Difference:
    """How far a result is from the reference.

    Attributes
    ----------
    excess
        Largest difference over what is allowed for its element: above 1 is wrong.
    error
        Largest difference over the reference's largest finite magnitude.
    elements
        How many elements differ by more than is allowed.
    """

    excess: float
    error: float
    elements: int


def tolerances(reference: Any, allowed: Allowed) -> Any:
    """The allowed difference of each element, as float64 of the reference's shape."""
    import numpy as np

    # a scalar would not be an array any more
    magnitude = np.abs(np.atleast_1d(reference).astype(np.float64))
    magnitude[~np.isfinite(magnitude)] = 0.0
    fixed = MOVED_FACTOR * allowed.moved + allowed.floor
    return ROUNDING_FACTOR * allowed.relative * magnitude + fixed


def compare(got: Any, reference: Any, allowed: Allowed, ignored: Any = None) -> Difference:
    """Compares one output with the reference's.

    Parameters
    ----------
    ignored
        Booleans of the output's shape: elements that may hold anything.
    """
    import numpy as np

    if got.shape != reference.shape or got.dtype != reference.dtype:
        return Difference(float("inf"), float("inf"), reference.size)
    if got.size == 0:
        return Difference(0.0, 0.0, 0)
    got, reference = np.atleast_1d(got), np.atleast_1d(reference)
    if reference.dtype.kind in "iub":
        return _compare_integers(got, reference, allowed, ignored)
    a, b = got.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(b)
    counted = np.ones(b.shape, dtype=bool) if ignored is None else ~ignored
    strangers = (np.isfinite(a) != finite) & counted
    if strangers.any():
        return Difference(float("inf"), float("inf"), int(strangers.sum()))
    counted &= finite & np.isfinite(a)
    off = np.zeros_like(b)
    np.subtract(a, b, where=counted, out=off)
    np.abs(off, out=off)
    largest_off = float(off.max())
    if largest_off == 0.0:
        return Difference(0.0, 0.0, 0)
    limit = tolerances(reference, allowed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(off > 0, off / limit, 0.0)
    largest = float(np.max(np.abs(b), where=finite, initial=0.0))
    error = largest_off / largest if largest else float("inf")
    return Difference(float(ratio.max()), error, int((ratio > 1).sum()))


def _compare_integers(got: Any, reference: Any, allowed: Allowed, ignored: Any) -> Difference:
    import numpy as np

    differs = got != reference
    if ignored is not None:
        differs &= ~ignored
    count = int(differs.sum())
    if not count:
        return Difference(0.0, 0.0, 0)
    off = np.abs(got.astype(np.float64) - reference.astype(np.float64))[differs]
    largest = float(np.max(np.abs(reference.astype(np.float64))))
    excess = count / allowed.flips if allowed.flips else float("inf")
    return Difference(excess, float(off.max()) / max(1.0, largest), count)
