"""What a run shows while it runs: one contract, and three ways to fulfil it."""

from familyseer.progress._base import FamilyInfo, Observer, RoundEvent, RunInfo
from familyseer.progress._choose import is_live, make_observer
from familyseer.progress._plain import PlainProgress
from familyseer.progress._quiet import QuietProgress

__all__ = [
    "FamilyInfo",
    "Observer",
    "PlainProgress",
    "QuietProgress",
    "RoundEvent",
    "RunInfo",
    "is_live",
    "make_observer",
]
