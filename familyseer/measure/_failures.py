"""Why a candidate failed: what may befall its worker, told in one line."""

from __future__ import annotations

import concurrent.futures
import signal

LONGEST = 300


class WorkerError(Exception):
    """A call failed in a way that its worker cannot be trusted with another."""


class WorkerStartError(WorkerError):
    """No worker could be started for the call."""

    def __init__(self) -> None:
        super().__init__("no worker process could be started for it")


class WorkerDiedError(WorkerError):
    """The worker's process ended before it answered.

    Parameters
    ----------
    exitcode
        As `multiprocessing.Process.exitcode`: negative for a signal; None if unknown.
    memory
        What is known of the memory it used, or nothing.
    """

    def __init__(self, exitcode: int | None, memory: str = "") -> None:
        self.exitcode = exitcode
        super().__init__(_manner_of_death(exitcode) + (f" ({memory})" if memory else ""))


class MemoryLimitError(WorkerError):
    """The worker and its children used more memory than they may; they were killed."""

    def __init__(self, limit_mib: int) -> None:
        self.limit_mib = limit_mib
        super().__init__(f"used more than {limit_mib} MiB of memory")


class StrayProcessError(WorkerError):
    """The call returned and left processes running; they were killed."""

    def __init__(self) -> None:
        super().__init__("left processes running")


class NonsenseError(WorkerError):
    """What came back from the worker is no answer."""

    def __init__(self) -> None:
        super().__init__("wrote into its worker's connection")


class CallError(WorkerError):
    """An exception that cannot cross between processes, or must not: told by its name."""


class TimeLimitError(concurrent.futures.TimeoutError):
    """The call took longer than it may; its worker was killed."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"took longer than its time limit of {limit_s:.3g} s")


def describe_failure(what: str, error: BaseException) -> str:
    """One printable line for a record, at most 300 characters: what failed, and why.

    Parameters
    ----------
    what
        ``build`` or ``run``.
    error
        An exception of a worker's call. Its type is told unless it is one of this module's,
        which say all in words; of a longer message its last line.
    """
    lines = str(error).strip().splitlines()
    reason = lines[-1] if lines else ""
    if not isinstance(error, (WorkerError, TimeLimitError)):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return one_line(f"{what} failed: {reason}")


def one_line(text: str) -> str:
    """A text without line breaks and control characters, cut to 300 characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _manner_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "its process ended"
    if exitcode >= 0:
        return f"its process ended by itself with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    # nobody here sends it without saying so
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
