"""Which worker gets which call next."""

from __future__ import annotations

import threading

from familyseer.measure._queue import CallQueue


def test_the_higher_priority_is_taken_first_and_equals_in_turn() -> None:
    queue: CallQueue[str] = CallQueue()
    for name, priority in (("a", 0.0), ("b", 2.0), ("c", 0.0), ("d", 2.0)):
        queue.put(name, priority=priority)
    assert [queue.take(0) for _ in range(4)] == ["b", "d", "a", "c"]


def test_what_is_for_one_taker_is_taken_by_no_other() -> None:
    queue: CallQueue[str] = CallQueue()
    queue.put("for 1", only=1, priority=9.0)
    queue.put("for all")
    assert queue.take(0) == "for all"
    assert queue.take(1) == "for 1"


def test_what_waits_for_a_taker_that_retires_goes_to_others() -> None:
    queue: CallQueue[str] = CallQueue()
    queue.put("for 1", only=1)
    queue.retire(1)
    assert queue.take(1) is None
    assert queue.take(0) == "for 1"


def test_closing_sends_takers_away_and_gives_what_is_left() -> None:
    queue: CallQueue[str] = CallQueue()
    taken: list[str | None] = []
    waits = threading.Thread(target=lambda: taken.append(queue.take(0)))
    waits.start()
    queue.put("for 1", only=1)
    assert queue.close() == ["for 1"]
    waits.join(timeout=60)
    assert taken == [None]
    queue.put("late")
    assert queue.take(1) is None
