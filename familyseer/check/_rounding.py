"""How far two right schedules of one subgraph may be apart, told from its TIR.

A schedule may change the order of a sum and nothing else. Summing ``n`` terms in any order, with
roundings as good as random, is off by about ``sqrt(n) * u`` times the sum of the terms' magnitudes,
`u` being the unit roundoff of the type that the sum is kept in (N. J. Higham and T. Mary, "A New
Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019; the worst case
has ``n * u``: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", section 4.2). The
random form is the one to use: the inputs have mean zero, and in the worst case's bound for a few
thousand terms a missing one goes unseen.

Stages follow each other, so their bounds add up. How much of that error reaches the result is no
business of the TIR: it is measured, as `familyseer.check._jobs` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from familyseer.families._tir import read_stages

# max(NaN, x) may be either in TVM's lowering, so these let a right schedule lose or keep a NaN
_CHOOSING = {"max", "min", "relu", "compare", "select"}


@dataclass(frozen=True)
class Rounding:
    """The rounding of a subgraph.

    Attributes
    ----------
    length
        Terms that are summed for one element of the result, summed over its stages, at least 1.
    error
        Relative error that rounding may cause: over the stages, the sum of the unit roundoff times
        the square root of the terms; 0 for integers.
    floats
        Whether it computes with floating-point numbers anywhere.
    choosing
        Whether it compares values, so that NaN may be lost or kept by the order of operands.
    """

    length: int
    error: float
    floats: bool
    choosing: bool


def rounding_of(mod: Any) -> Rounding:
    """The rounding of an unscheduled subgraph."""
    length, error, floats, choosing = 0, 0.0, False, False
    for stage in read_stages(mod):
        terms = stage.iterations(reducing=True)
        length += terms if stage.reduces else 0
        error += math.sqrt(terms) * max((unit_roundoff(w.dtype) for w in stage.writes), default=0.0)
        floats = floats or any(is_float(a.dtype) for a in (*stage.reads, *stage.writes))
        choosing = choosing or not _CHOOSING.isdisjoint(stage.operations)
    return Rounding(max(1, length), error, floats, choosing)


def is_float(dtype: str) -> bool:
    """Whether elements of a type are rounded; the names are NumPy's and ml_dtypes'."""
    return "float" in dtype


def unit_roundoff(dtype: str) -> float:
    """Largest relative error of rounding to a type once; 0 for integers and booleans."""
    return float(finfo(dtype).eps) / 2 if is_float(dtype) else 0.0


def finfo(dtype: str) -> Any:
    """NumPy's description of a floating-point type, of the small ones too."""
    import ml_dtypes

    describe: Any = ml_dtypes.finfo
    return describe(numpy_dtype(dtype))


def numpy_dtype(name: str) -> Any:
    """NumPy's type of a name, of the small floats too, which NumPy itself does not have."""
    import ml_dtypes
    import numpy as np

    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype(getattr(ml_dtypes, name))
