"""A finished run as one page: what was found, where the time went, how good the models were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.report._accuracy import AccuracyLog
    from familyseer.report._ending import REPORT_S, report_run
    from familyseer.report._plots import save_plots
    from familyseer.report._write import write_report

__all__ = ["AccuracyLog", "REPORT_S", "report_run", "save_plots", "write_report"]

__getattr__ = lazily(
    __name__,
    {
        "AccuracyLog": "._accuracy",
        "REPORT_S": "._ending",
        "report_run": "._ending",
        "save_plots": "._plots",
        "write_report": "._write",
    },
)
