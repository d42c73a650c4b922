"""Steps in processes of their own: each with a time limit, none able to end the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _gpu_record import Record

# a step that is asked to end gets so long to write down what it has
_GRACE_S = 5.0
DONE, FAILED, STOPPED, NO_TIME, MISSING = "done", "failed", "stopped", "no time", "missing"
RUNNING = "running"
# what a step ends with when the host lacks something that it needs
MISSING_CODE = 2


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    name
        Among the results.
    command
        What is run; it ends with 0, with `MISSING_CODE` and a line that says what the host lacks,
        or with anything else for a failure.
    limit_s
        The most seconds it gets.
    least_s
        With fewer seconds left it is not started.
    needs
        What is called before it starts, such as to wait for something that it needs. Its time is
        not the step's.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    least_s: float = 0.0
    needs: Callable[[], object] = lambda: None


def run_steps(
    steps: Sequence[Step],
    record: Record,
    logs: Path,
    *,
    seconds: float,
    environ: Mapping[str, str] = os.environ,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Runs what is not done yet, in order, until the time is over.

    A step that does not fit is passed over for a shorter one behind it. What was stopped, failed or
    lacked something is tried again by the next call.

    Parameters
    ----------
    logs
        Folder for a log a step.
    seconds
        That all of them together may take.
    after
        Called after each step.
    """
    logs.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    for step in steps:
        if record.step(step.name).get("status") == DONE:
            _say(f"{step.name}: done before")
            continue
        step.needs()
        left = end - time.monotonic()
        if left < max(step.least_s, 1.0):
            record.note(step.name, status=NO_TIME, error=None)
            _say(f"{step.name}: passed over, {left:.0f} s are left of {step.least_s:.0f}")
        else:
            _say(f"{step.name}: at most {min(left, step.limit_s):.0f} s")
            _run(step, record, logs / f"{step.name}.log", min(left, step.limit_s), environ)
        after()


def _run(step: Step, record: Record, log: Path, limit_s: float, environ: Mapping[str, str]) -> None:
    record.note(step.name, status=RUNNING, error=None)
    began = time.monotonic()
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                # a group of its own, so that what it starts ends with it, in this session, so that
                # it ends with us where a whole session is ended
                preexec_fn=os.setpgrp,
            )
        except OSError as error:
            _end(record, step, FAILED, began, f"{step.command[0]}: {error.strerror}")
            return
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _stop(process)
    if code == 0:
        _end(record, step, DONE, began, None)
    elif code is None:
        _end(record, step, STOPPED, began, f"took more than {limit_s:.0f} s")
    else:
        status = MISSING if code == MISSING_CODE else FAILED
        _end(record, step, status, began, _last_line(log) or f"ended with {code}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a step and all that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _end(record: Record, step: Step, status: str, began: float, error: str | None) -> None:
    seconds = round(time.monotonic() - began, 1)
    record.note(step.name, status=status, seconds=seconds, error=error)
    _say(f"{step.name}: {status} after {seconds:g} s" + (f": {error}" if error else ""))


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
