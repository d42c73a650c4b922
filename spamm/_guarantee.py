"""What a guaranteed relative error needs: how large C is at least, before and after multiplying.

Before, ||C||_F is only estimated, by the Frobenius norm of A (B X) for a few random sign vectors
X (Hutchinson's estimator for the trace of C^T C). Afterwards it is bounded from the result itself,
so that a guarantee never rests on chance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._arrays import accumulator_type
from spamm._norms import NORM_ERROR, Norms, block_norms
from spamm._plan import Plan
from spamm._products import SkippedErrors, kept_by_lists, parts

Array = npt.NDArray[Any]

PROBES = 8
"""Vectors that an estimate is made from."""
# The estimate is lowered by so many standard errors of its mean, and at most to this share
_CAUTION, _LOWEST_SHARE = 2.0, 0.25
# Times that a bound is tightened without a lower bound on ||C||_F before all is kept
_BLIND_ATTEMPTS = 3
_TIGHTER = 1e-3
# Rows of a half-precision matrix that are converted at once
_ROWS = 256
# Powers of two that neither type of a probe overflows with
_MOST_EXPONENT = {np.dtype(np.float32): 100, np.dtype(np.float64): 900}
# Rounding of one addition: tensor cores truncate sums that float32 would round
_UNIT = {np.dtype(np.float32): 2.0**-22, np.dtype(np.float64): 2.0**-53}
# Relative change of a product whose factors lose their last 13 bits, rounded or truncated
_TF32 = 2.0**-8.9


def probable_norm(a: Array, b: Array, norms_a: Norms, norms_b: Norms) -> float:
    """A cautious estimate of ||A B||_F: rarely above it; NaN where a block is not finite.

    Parameters
    ----------
    a, b
        Matrices (m, k) and (k, n).
    norms_a, norms_b
        Norms of their blocks, which tell their scale.
    """
    working = accumulator_type(a.dtype)
    times_a, times_b = (functools.partial(_times, matrix) for matrix in (a, b))
    return probed_norm(times_a, times_b, b.shape[1], working, norms_a, norms_b)


def probed_norm(
    times_a: Callable[[Array], Array],
    times_b: Callable[[Array], Array],
    n: int,
    working: np.dtype[Any],
    norms_a: Norms,
    norms_b: Norms,
) -> float:
    """`probable_norm` of matrices that are known by their products with `PROBES` vectors.

    Parameters
    ----------
    times_a, times_b
        From vectors (k, PROBES), or (n, PROBES), of the working type to the matrix times them.
    n
        Columns of B.
    working
        Float32 or float64.
    norms_a, norms_b
        As for `probable_norm`.
    """
    if not (np.isfinite(norms_a).all() and np.isfinite(norms_b).all()):
        return float("nan")
    scale_a, scale_b = _exponent(norms_a, working), _exponent(norms_b, working)
    # the same signs every time: planning twice gives the same plan
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(n, PROBES))
    with np.errstate(all="ignore"):
        inner = times_b(np.ldexp(signs, -scale_b).astype(working))
        outer = times_a(np.ldexp(inner, -scale_a).astype(working))
        squares = np.square(outer.astype(np.float64)).sum(axis=0)
        mean = squares.mean()
        low = mean - _CAUTION * squares.std(ddof=1) / np.sqrt(PROBES)
        root = np.sqrt(max(low, _LOWEST_SHARE * mean))
        return float(np.ldexp(root, scale_a + scale_b))


def multiply_until_proved(
    plan: Plan,
    max_rel_error: float,
    multiply: Callable[[Plan], None],
    least_norm: Callable[[Plan], float],
    tightened: Callable[[float], Plan],
) -> None:
    """Multiply until the result proves that the plan's bound is small enough.

    Parameters
    ----------
    plan
        What is tried first.
    multiply
        Computes a plan's products.
    least_norm
        A lower bound on ||A B||_F from what a plan has just computed, as `certain_norm` gives it.
    tightened
        A plan whose bound is at most a number; everything is kept for 0.
    """
    multiply(plan)
    blind = 0
    while plan.error_bound > 0:
        least = least_norm(plan)
        allowed = max_rel_error * max(least, 0.0)
        if plan.error_bound <= allowed:
            return
        proved = allowed > 0
        if not proved:
            blind += 1
            hopeless = blind > _BLIND_ATTEMPTS or not np.isfinite(least)
            allowed = 0.0 if hopeless else plan.error_bound * _TIGHTER
        plan = tightened(allowed)
        multiply(plan)
        if proved:
            # ||C||_F >= least is certain: the new bound needs no second check
            return


def certain_norm(result: Array, plan: Plan, dtype: np.dtype[Any], precision: str | None) -> float:
    """A lower bound on ||A B||_F, from what a plan computed of it; may be negative.

    Parameters
    ----------
    result
        C~ as it was computed (m, n), float32 or float64.
    dtype, precision
        The operands' type, and whether they were rounded to TF32.
    """
    computed = float(block_norms(result, *result.shape)[0, 0]) if result.size else 0.0
    if result.dtype == np.float32:
        # sums that were float64 have been rounded once more
        computed *= 1 - float(np.finfo(np.float32).eps)
    return certain_from(computed, plan, accumulator_type(dtype), precision)


def certain_from(
    computed: float, plan: Plan, working: np.dtype[Any], precision: str | None
) -> float:
    """`certain_norm` from the Frobenius norm of what was computed, in sums of a working type."""
    rounding = _rounding(plan, working, precision)
    slack = NORM_ERROR[np.dtype(np.float64)]
    if not computed < float("inf"):
        return float("-inf")
    return computed * (1 - slack) - (rounding + plan.error_bound) * (1 + slack)


def _rounding(plan: Plan, working: np.dtype[Any], precision: str | None) -> float:
    """Bound on what rounding changed in C~, in the Frobenius norm, for sums in any order.

    |fl(x . y) - x . y| <= gamma_K |x| . |y|, and a block's |X| |Y| is bounded by its norms.
    """
    (m, _, n), (_, _, nb) = plan.shape, plan.grid
    kept = SkippedErrors(plan.norms_a, plan.norms_b)
    for part in parts(plan.norms_a, plan.norms_b):
        kept.add(part, ~kept_by_lists(part, plan.offsets, plan.ks, nb))
    terms = int(np.diff(plan.offsets).max(initial=0)) * plan.block[1] + 1
    growth = terms * _UNIT[working]
    if growth >= 0.5:
        return float("inf")
    relative = growth / (1 - growth) + (_TF32 if precision == "tf32" else 0.0)
    # a term that underflows is lost up to the smallest normal number
    underflow = float(np.finfo(working).tiny) * terms * float(np.sqrt(float(m) * n))
    return kept.bound() * relative * 1.01 + underflow


def _exponent(norms: Norms, working: np.dtype[Any]) -> int:
    most = _MOST_EXPONENT[working]
    exponent = int(np.frexp(float(norms.max(initial=0.0)))[1])
    return max(-most, min(most, exponent))


def _times(matrix: Array, vectors: Array) -> Array:
    """The product in the vectors' type, without a converted copy of the whole matrix."""
    if matrix.dtype == vectors.dtype:
        product: Array = matrix @ vectors
        return product
    rows = range(0, matrix.shape[0], _ROWS)
    pieces = [matrix[i : i + _ROWS].astype(vectors.dtype) @ vectors for i in rows]
    return np.concatenate(pieces) if pieces else np.zeros((0, vectors.shape[1]), vectors.dtype)
