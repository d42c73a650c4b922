"""What decides how much is skipped: tau itself, a share of products, or a relative error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from spamm._norms import Norms
from spamm._plan import checked_tau
from spamm._select import checked_ratio, tau_for_bound, tau_for_valid_ratio


class Criterion(NamedTuple):
    """One of "tau", "valid_ratio" and "max_rel_error", and its value."""

    name: str
    value: float

    def tau(self, norms_a: Norms, norms_b: Norms, norm_of_c: Callable[[], float]) -> float:
        """The tau that it asks for; `norm_of_c` estimates ||C||_F and is called only if needed."""
        if self.name == "tau":
            return self.value
        if self.name == "valid_ratio":
            return tau_for_valid_ratio(norms_a, norms_b, self.value)
        bound = self.bound(norm_of_c())
        return tau_for_bound(norms_a, norms_b, bound) if math.isfinite(bound) else 0.0

    def bound(self, norm_of_c: float) -> float:
        """What the error may be at most for "max_rel_error", if ||C||_F is this."""
        # bound <= e (||C~|| - bound) is what a result will be held to, and ||C~|| is about ||C||
        return norm_of_c * self.value / (1 + self.value)


def checked_criterion(tau: Any, valid_ratio: Any, max_rel_error: Any) -> Criterion:
    """The one criterion that is given.

    Raises
    ------
    ValueError
        None or several are given, or its value is out of its range.
    """
    every = {"tau": tau, "valid_ratio": valid_ratio, "max_rel_error": max_rel_error}
    given = [name for name, value in every.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(given) if given else "none"
        raise ValueError(
            f"tau, valid_ratio, max_rel_error: expected exactly one of them, got {got}"
        )
    (name,) = given
    check = {"tau": checked_tau, "valid_ratio": checked_ratio, "max_rel_error": _checked_error}
    return Criterion(name, check[name](every[name]))


def _checked_error(value: Any) -> float:
    try:
        error = float(value)
    except (TypeError, ValueError):
        error = math.nan
    if not 0 <= error < 1:
        raise ValueError(
            f"max_rel_error: expected a number of at least 0 and below 1, got {value!r}"
        )
    return error
