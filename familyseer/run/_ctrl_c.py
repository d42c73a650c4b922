"""Ctrl-C ends a run as its deadline would."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from familyseer.search import Clock


@contextmanager
def ending_on_ctrl_c(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C ends tuning as the deadline would; a second one interrupts at once.

    A request to terminate is answered like a Ctrl-C: whoever sends one wants the machine back
    soon, and what is known is worth keeping.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    # a handler that is not Python's cannot be put back by Python
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def stop(_number: int, _frame: Any) -> None:
        clock.stop()
        for number in numbers:
            signal.signal(number, signal.default_int_handler)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
