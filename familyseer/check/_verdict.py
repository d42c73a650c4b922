"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """The outcome of checking one schedule of one subgraph.

    Attributes
    ----------
    outcome
        ``right``, ``wrong`` or ``unchecked``; what could not be checked is never told as right.
    error
        Largest difference over the largest magnitude of the result, over all kinds of input tried;
        infinity where the results are not numbers at the same places. None while unchecked.
    kind_of_input
        The kind of input (`familyseer.check._inputs.KINDS`) that showed it wrong; empty otherwise,
        and where the process died before it could say.
    reason
        One line: how it is wrong, or why it is unchecked; empty when right.
    file
        The reproducer of a wrong one, None where none could be written.
    """

    outcome: str
    error: float | None = None
    kind_of_input: str = ""
    reason: str = ""
    file: Path | None = None

    @property
    def right(self) -> bool:
        """Whether it was checked on every kind of input and found right."""
        return self.outcome == "right"

    @property
    def wrong(self) -> bool:
        """Whether it was found wrong."""
        return self.outcome == "wrong"
