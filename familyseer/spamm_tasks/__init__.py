"""SpAMM problems as tasks of the budget loop.

A problem is a product, its type and how much of it is kept; its search space is the list of
configurations that a kernel generator of `spamm` offers. To the loop it is a subgraph like any
other: `_workload` says how configurations become MetaSchedule's schedules and records, `_search`
proposes them, `_model` ranks them, `_measuring` has them built and timed by the worker pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer.spamm_tasks._problem import Problem, SpammOptions

if TYPE_CHECKING:
    from familyseer.spamm_tasks._tune import tune_spamm

__all__ = ["Problem", "SpammOptions", "tune_spamm"]

__getattr__ = lazily(__name__, {"tune_spamm": "._tune"})
