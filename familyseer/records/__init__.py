"""What a run measured, on disk: durable by rounds, and read back whatever a crash left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from familyseer.records._failures import Failure, FailureLog, read_failures
from familyseer.records._journal import RecordsError

if TYPE_CHECKING:
    from familyseer.records._book import RecordBook

__all__ = ["Failure", "FailureLog", "RecordBook", "RecordsError", "read_failures"]


def __getattr__(name: str) -> Any:
    # the one part that needs TVM
    if name != "RecordBook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from familyseer.records._book import RecordBook

    return RecordBook
