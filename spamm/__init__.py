"""SpAMM: products of near-sparse matrices that skip what is too small to matter.

`matmul` multiplies; `plan` says what would be computed and bounds the error; `multiply` uses a
plan again. Importing this needs NumPy only: a backend is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spamm._batch import BatchPlan
    from spamm._matmul import matmul, multiply, plan
    from spamm._norms import block_norms
    from spamm._plan import Plan, build_plan
    from spamm._select import tau_for_bound, tau_for_valid_ratio

__all__ = [
    "BatchPlan",
    "Plan",
    "block_norms",
    "build_plan",
    "matmul",
    "multiply",
    "plan",
    "tau_for_bound",
    "tau_for_valid_ratio",
]

_HOMES = {
    "BatchPlan": "_batch",
    "Plan": "_plan",
    "block_norms": "_norms",
    "build_plan": "_plan",
    "matmul": "_matmul",
    "multiply": "_matmul",
    "plan": "_matmul",
    "tau_for_bound": "_select",
    "tau_for_valid_ratio": "_select",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
