"""Calls that wait for a worker: by priority, and some for one worker only."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    order: tuple[float, int]
    item: T
    only: int | None


class CallQueue(Generic[T]):
    """A queue that several takers share, each known by a number.

    The higher priority is taken first, of equals the one that came first. An item may be put there
    for one taker only, as long as that one takes any.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting[T]] = []
        self._retired: set[int] = set()
        self._closed = False
        self._count = itertools.count()
        self._changed = threading.Condition()

    def put(self, item: T, *, priority: float = 0.0, only: int | None = None) -> None:
        """Adds an item; after `close` nobody takes it."""
        with self._changed:
            self._waiting.append(_Waiting((-priority, next(self._count)), item, only))
            self._changed.notify_all()

    def take(self, taker: int) -> T | None:
        """Waits for an item; None once the queue is closed or the taker retired."""
        with self._changed:
            while not self._closed and taker not in self._retired:
                mine = [w for w in self._waiting if w.only in (None, taker) or self._orphan(w)]
                if mine:
                    chosen = min(mine, key=lambda w: w.order)
                    self._waiting.remove(chosen)
                    return chosen.item
                self._changed.wait()
        return None

    def retire(self, taker: int) -> None:
        """Gives a taker nothing more; what waits for it alone may go to any other."""
        with self._changed:
            self._retired.add(taker)
            self._changed.notify_all()

    def close(self) -> list[T]:
        """Sends all takers away and gives what was not taken."""
        with self._changed:
            self._closed = True
            left = [w.item for w in self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
        return left

    def _orphan(self, waiting: _Waiting[T]) -> bool:
        return waiting.only in self._retired
