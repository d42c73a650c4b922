"""Writing the page."""

from __future__ import annotations

from pathlib import Path

from familyseer.atomic import replacing
from familyseer.report._page import render
from familyseer.report._read import RunData, read_run

FILE = "report.html"


def write_report(out: Path, path: Path | None = None) -> RunData:
    """Writes the report of a run: one HTML file that asks for nothing from elsewhere.

    The same folder gives the same bytes.

    Parameters
    ----------
    out
        The run's folder, of a finished run or of one that was interrupted.
    path
        The file to write; by default ``report.html`` in `out`.

    Returns
    -------
    RunData
        What the report shows; its `missing` names what of the run could not be read.

    Raises
    ------
    UserError
        `out` is no folder of a tuning run.
    OSError
        The file cannot be written.
    """
    data = read_run(out)
    target = path or out / FILE
    with replacing(target) as draft:
        draft.write_text(render(data), encoding="utf-8")
    return data
