from __future__ import annotations

import math
import time

from familyseer.search import Clock


def test_the_budget_counts_from_the_start_of_the_command_and_the_reserve_is_kept() -> None:
    clock = Clock(100.0, started_at=time.monotonic() - 40)
    clock.reserve_s = 15
    assert 44 < clock.tuning_left_s() <= 45
    assert 59 < clock.left_s() <= 60


def test_without_a_budget_there_is_always_time_until_stopped() -> None:
    clock = Clock(None)
    assert math.isinf(clock.tuning_left_s())
    clock.stop()
    assert clock.tuning_left_s() == 0
    assert clock.stopped


def test_phases_add_up() -> None:
    clock = Clock(10.0)
    for _ in range(2):
        with clock.phase("search"):
            time.sleep(0.02)
    assert clock.phases["search"] >= 0.04
