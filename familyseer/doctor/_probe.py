"""Programs run in children that may crash or hang without harm to the one who asks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_GRACE_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What a child said.

    Attributes
    ----------
    output
        Its standard output; empty when it failed.
    fault
        Why there is no answer, in a few words; empty when it ended well.
    """

    output: str = ""
    fault: str = ""

    @property
    def first_line(self) -> str:
        """The first line of the output that is not blank."""
        return next((line.strip() for line in self.output.splitlines() if line.strip()), "")


def ask(command: Sequence[str], timeout_s: float) -> Answer:
    """Runs a program for at most `timeout_s` seconds. Never raises, and leaves no child behind."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Answer(fault=f"cannot be run: {error.strerror}")
    try:
        output, errors = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(child)
        return Answer(fault=f"no answer in {timeout_s:g} s")
    except BaseException:
        _end(child)
        raise
    if child.returncode == 0:
        return Answer(output=output)
    if child.returncode < 0:
        return Answer(fault=f"crashed ({_signal_name(-child.returncode)})")
    last = [line.strip() for line in (errors or output).splitlines() if line.strip()]
    return Answer(fault=last[-1] if last else f"exit code {child.returncode}")


def _end(child: subprocess.Popen[str]) -> None:
    """Kills a child with its children, without waiting for one that a driver holds."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired, ValueError, OSError):
        child.communicate(timeout=_GRACE_S)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ask_python(code: str, timeout_s: float) -> tuple[Mapping[str, Any], str]:
    """Runs Python code in a child and gives the JSON object that is its last line of output.

    Returns
    -------
    facts, fault
        The object, empty where there is none, and why there is none, empty where there is one.
    """
    answer = ask([sys.executable, "-c", code], timeout_s)
    if answer.fault:
        return {}, answer.fault
    try:
        facts = json.loads(answer.output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}, "no readable answer"
    return (facts, "") if isinstance(facts, dict) else ({}, "no readable answer")
