"""What a run measured, on disk: durable by rounds, and read back whatever a crash left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily
from familyseer.records._failures import Failure, FailureLog, read_failures
from familyseer.records._journal import RecordsError

if TYPE_CHECKING:
    from familyseer.records._book import RecordBook

__all__ = ["Failure", "FailureLog", "RecordBook", "RecordsError", "read_failures"]

__getattr__ = lazily(__name__, {"RecordBook": "._book"})
