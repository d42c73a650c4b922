"""Which observer fits: live on a terminal, plain lines elsewhere, none when asked to be quiet."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TextIO

from familyseer.progress._base import Observer
from familyseer.progress._plain import PlainProgress
from familyseer.progress._quiet import QuietProgress


def is_live(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be drawn anew.

    Continuous integration gives some jobs a terminal that it keeps as a log.
    """
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return False
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    with contextlib.suppress(ValueError, OSError):
        return stream.isatty()
    return False


def make_observer(
    quiet: bool,
    json: bool,
    stream: TextIO | None = None,
    *,
    started_at: float | None = None,
) -> Observer:
    """The observer for a run.

    Parameters
    ----------
    quiet
        Show nothing.
    json
        A program reads the result: plain lines even on a terminal.
    stream
        Where to show it; standard error by default, so that standard output keeps the result.
    started_at
        The `time.monotonic` from which time is counted; now by default.
    """
    if quiet:
        return QuietProgress()
    stream = sys.stderr if stream is None else stream
    started_at = time.monotonic() if started_at is None else started_at
    if json or not is_live(stream):
        return PlainProgress(stream, started_at=started_at)
    # rich takes a tenth of a second to import
    from familyseer.progress._live import RichProgress

    return RichProgress(stream, started_at=started_at)
