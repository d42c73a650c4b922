"""What predicts how fast a candidate runs: features, the model of a family, its store.

`FamilyCostModel` goes wherever MetaSchedule takes a cost model. It is imported on first use, so
that importing this package loads neither TVM nor XGBoost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costmodels.family_model import FamilyCostModel

__all__ = ["FamilyCostModel"]


def __getattr__(name: str) -> Any:
    if name == "FamilyCostModel":
        from costmodels.family_model import FamilyCostModel

        return FamilyCostModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
