"""FamilySeer: tune models for TVM by families of subgraphs, inside a wall-clock budget.

Importing this package is cheap: TVM is loaded when something that needs it is first used. It also
registers the Relax pipeline ``"familyseer"``, at once if TVM is loaded and else when it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer._pipeline_hook import register_pipeline_when_tvm_loads

if TYPE_CHECKING:
    from familyseer._hook import tune_relax
    from familyseer.api import Callback, Result, StopAt, StopTuning, StopWhenFlat, load, tune
    from familyseer.errors import RunError, UserError
    from familyseer.measure import WarmBuilder, WarmRunner
    from familyseer.search import FamilyTaskScheduler
    from familyseer.vector_math import vectorisable

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "FamilyTaskScheduler",
    "Result",
    "RunError",
    "StopAt",
    "StopTuning",
    "StopWhenFlat",
    "UserError",
    "WarmBuilder",
    "WarmRunner",
    "__version__",
    "load",
    "tune",
    "tune_relax",
    "vectorisable",
]

__getattr__ = lazily(
    __name__,
    {
        **dict.fromkeys(
            ("Callback", "Result", "StopAt", "StopTuning", "StopWhenFlat", "load", "tune"),
            "familyseer.api",
        ),
        "FamilyTaskScheduler": "familyseer.search",
        "RunError": "familyseer.errors",
        "UserError": "familyseer.errors",
        "WarmBuilder": "familyseer.measure",
        "WarmRunner": "familyseer.measure",
        "tune_relax": "familyseer._hook",
        "vectorisable": "familyseer.vector_math",
    },
)


register_pipeline_when_tvm_loads()
