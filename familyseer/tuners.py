"""The tuners that can be compared, by name."""

from __future__ import annotations

from familyseer.errors import UserError
from familyseer.tactics import Tactics

OURS, STOCK, STOCK_WARM, RANDOM = "familyseer", "metaschedule", "metaschedule-warm", "random"
TUNERS = (OURS, STOCK, STOCK_WARM, RANDOM)
WITHOUT = f"{OURS}-without-"


def check_tuner(name: str) -> str:
    """The name, if it is one of a tuner.

    ``metaschedule-warm`` is MetaSchedule's own search with our builder and runner, so that only the
    search differs; ``familyseer-without-TACTIC`` is ours with one of `familyseer.tactics` off.

    Raises
    ------
    UserError
        It is none.
    """
    if name in TUNERS or name in [f"{WITHOUT}{tactic}" for tactic in Tactics.names()]:
        return name
    raise UserError(
        f"tuner {name}: expected one of {', '.join(TUNERS)}, or {WITHOUT}TACTIC with a tactic of "
        f"{', '.join(Tactics.names())}"
    )


def is_ours(name: str) -> bool:
    """Whether a tuner is ours, with or without all of its tactics."""
    return name == OURS or name.startswith(WITHOUT)
