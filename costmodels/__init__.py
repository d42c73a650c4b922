"""What predicts how fast a candidate runs: features, the model of a family, its store.

`FamilyCostModel` goes wherever MetaSchedule takes a cost model. It is imported on first use, so
that importing this package loads neither TVM nor XGBoost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from costmodels.family_model import FamilyCostModel

__all__ = ["FamilyCostModel"]

__getattr__ = lazily(__name__, {"FamilyCostModel": ".family_model"})
