"""The report at the end of a run, which must not fail for want of it."""

from __future__ import annotations

import logging
from pathlib import Path

from familyseer.report._machine import note_machine
from familyseer.report._write import write_report

log = logging.getLogger(__name__)

# what it takes of a run's end, most of it to measure the machine's peaks
REPORT_S = 0.8
_PEAKS_S = 0.4


def report_run(out: Path, device: str, left_s: float) -> None:
    """Notes the machine and writes ``report.html``; a warning says why where that fails.

    Parameters
    ----------
    out
        The run's folder.
    device
        What measured: ``cpu`` for this machine's.
    left_s
        Seconds left of the budget, infinite without one.
    """
    try:
        note_machine(out / "tuning", device=device, time_s=min(_PEAKS_S, left_s))
        write_report(out)
    except Exception as error:  # whatever a full disk or a damaged file leads to
        log.warning("%s: no report is written: %s", out, error)
