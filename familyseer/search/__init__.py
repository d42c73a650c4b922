"""The search: which subgraph gets the next second, which candidates are measured, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer.search._clock import Clock
from familyseer.search._task import TaskState

if TYPE_CHECKING:
    from familyseer.search._loop import BudgetLoop, Round
    from familyseer.search._rounds import Rounds
    from familyseer.search._scheduler import FamilyTaskScheduler

__all__ = ["BudgetLoop", "Clock", "FamilyTaskScheduler", "Round", "Rounds", "TaskState"]

__getattr__ = lazily(
    __name__,
    {
        "BudgetLoop": "._loop",
        "Round": "._loop",
        "Rounds": "._rounds",
        "FamilyTaskScheduler": "._scheduler",
    },
)
