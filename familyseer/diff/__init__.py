"""Two tuning runs compared: how they were asked, what they found, and both libraries timed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.diff._bench import time_both
    from familyseer.diff._compare import compare_runs

__all__ = ["compare_runs", "time_both"]

# reading two folders needs neither TVM nor NumPy; timing libraries does
__getattr__ = lazily(__name__, {"compare_runs": "._compare", "time_both": "._bench"})
