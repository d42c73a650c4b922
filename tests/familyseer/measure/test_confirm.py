"""A winner is confirmed beside the best so far, whatever the machine did in between."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._confirm import CONTENDERS, TURNS, settle
from familyseer.measure._measure import Measured, measure
from familyseer.tvm_env import load_tvm


def candidate(*seconds: float) -> Measured:
    """A candidate as its round measured it; none of it is real but the arithmetic."""
    found = SimpleNamespace(run_secs=list(seconds), error_msg=None if seconds else "it failed")
    run_s = sorted(seconds)[len(seconds) // 2] if seconds else math.inf
    return Measured(None, SimpleNamespace(error_msg=None), found, run_s)


class Machine:
    """Times candidates by what they truly take, as slow as it is now."""

    def __init__(self, slower: float = 1.0) -> None:
        self.slower = slower
        self.truly: dict[int, float] = {}
        self.timed: list[Measured] = []

    def __call__(self, one: Measured) -> list[float]:
        self.timed.append(one)
        true_s = self.truly[id(one)]
        return [] if math.isinf(true_s) else [true_s * self.slower] * 3

    def knows(self, one: Measured, true_s: float) -> Measured:
        self.truly[id(one)] = true_s
        return one


def test_a_lucky_newcomer_does_not_replace_the_best() -> None:
    machine = Machine()
    incumbent = machine.knows(candidate(1.0, 1.0, 1.0), 1.0)
    lucky = machine.knows(candidate(0.8, 0.8, 0.8), 1.1)
    assert settle([lucky], incumbent, machine) == pytest.approx(1.0)
    assert lucky.run_s == pytest.approx(1.1)
    assert incumbent.run_s == 1.0
    assert [float(s) for s in lucky.runner_result.run_secs] == pytest.approx([1.1] * 3 * TURNS)


def test_a_truly_faster_newcomer_keeps_its_time() -> None:
    machine = Machine()
    incumbent = machine.knows(candidate(1.0), 1.0)
    faster = machine.knows(candidate(0.8), 0.82)
    settle([faster], incumbent, machine)
    assert faster.run_s == pytest.approx(0.82)


def test_the_two_are_timed_in_turns() -> None:
    machine = Machine()
    incumbent, faster = candidate(1.0), candidate(0.8)
    machine.knows(incumbent, 1.0)
    machine.knows(faster, 0.8)
    settle([faster], incumbent, machine)
    assert machine.timed == [faster, incumbent] * TURNS


def test_on_a_machine_that_became_slower_times_are_told_on_the_bests_clock() -> None:
    machine = Machine(slower=1.3)
    incumbent = machine.knows(candidate(1.0), 1.0)
    faster = machine.knows(candidate(0.7 * 1.3, 0.71 * 1.3, 0.72 * 1.3), 0.7)
    other = candidate(2.6, 2.6, 2.73)
    failed = candidate()
    assert settle([other, faster, failed], incumbent, machine) == pytest.approx(1.3)
    assert faster.run_s == pytest.approx(0.7)
    assert [float(s) for s in other.runner_result.run_secs] == pytest.approx([2.0, 2.0, 2.1])
    assert other.run_s == pytest.approx(2.0)
    assert incumbent.run_s == 1.0
    assert math.isinf(failed.run_s)


def test_on_a_machine_that_became_faster_an_equal_is_no_winner() -> None:
    machine = Machine(slower=0.7)
    incumbent = machine.knows(candidate(1.0), 1.0)
    equal = machine.knows(candidate(0.7), 1.0)
    worse = candidate(0.98)
    third = machine.knows(candidate(0.9), 1.3)
    settle([equal, worse, third], incumbent, machine)
    assert equal.run_s == pytest.approx(1.0)
    assert third.run_s == pytest.approx(1.3)
    assert worse.run_s == pytest.approx(1.4)


def test_noise_of_the_best_does_not_move_the_others() -> None:
    machine = Machine(slower=1.05)
    incumbent = machine.knows(candidate(1.0), 1.0)
    faster, other = machine.knows(candidate(0.9), 0.9), candidate(3.0)
    assert settle([faster, other], incumbent, machine) == pytest.approx(1.05)
    assert other.run_s == 3.0


def test_without_a_claim_nothing_is_timed_again() -> None:
    machine = Machine()
    incumbent = candidate(1.0)
    slower, failed = candidate(1.1), candidate()
    assert settle([slower, failed], incumbent, machine) == 1.0
    assert settle([], incumbent, machine) == 1.0
    assert machine.timed == []
    assert slower.run_s == 1.1


def test_only_the_best_few_claims_are_timed_again() -> None:
    machine = Machine()
    incumbent = machine.knows(candidate(1.0), 1.0)
    claims = [machine.knows(candidate(s), s) for s in (0.95, 0.9, 0.85, 0.8)]
    settle(claims, incumbent, machine)
    assert {id(m) for m in machine.timed} == {id(incumbent), id(claims[2]), id(claims[3])}
    assert CONTENDERS == 2


def test_before_there_is_a_best_the_two_fastest_are_compared() -> None:
    machine = Machine()
    lucky, second, third = candidate(0.5), candidate(0.6), candidate(0.7)
    machine.knows(lucky, 0.9)
    machine.knows(second, 0.6)
    assert settle([third, lucky, second], None, machine) == 1.0
    assert (lucky.run_s, second.run_s, third.run_s) == pytest.approx((0.9, 0.6, 0.7))
    assert settle([alone := candidate(0.5)], None, machine) == 1.0
    assert alone.run_s == 0.5


def test_a_second_timing_that_fails_leaves_the_first() -> None:
    machine = Machine()
    incumbent = machine.knows(candidate(1.0), 1.0)
    broken = machine.knows(candidate(0.9), math.inf)
    fine = machine.knows(candidate(0.8), 0.85)
    settle([broken, fine], incumbent, machine)
    assert broken.run_s == 0.9
    assert fine.run_s == pytest.approx(0.85)


def test_what_could_not_be_timed_again_is_put_on_the_bests_clock_too() -> None:
    machine = Machine(slower=0.7)
    incumbent = machine.knows(candidate(1.0), 1.0)
    # truly slower than the best: on its clock it would take 1.2
    broken = machine.knows(candidate(0.84), math.inf)
    settle([broken], incumbent, machine)
    assert broken.run_s == pytest.approx(1.2)


def test_without_a_time_of_the_best_nothing_is_changed() -> None:
    machine = Machine()
    incumbent = machine.knows(candidate(1.0), math.inf)
    newcomer = machine.knows(candidate(0.9), 5.0)
    assert settle([newcomer], incumbent, machine) == 1.0
    assert newcomer.run_s == 0.9


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[Any, Any]]:
    builder, runner = WarmBuilder(workers=2, timeout_s=20), WarmRunner(timeout_s=3)
    yield builder, runner
    builder.close()
    runner.close()


@pytest.fixture(scope="module")
def context(cpu: Any, make_dense: Any) -> Any:
    from familyseer.search._proposals import new_context

    return new_context(make_dense(), cpu, seed=0, threads=2)


def test_the_library_of_the_best_alone_is_kept_and_can_be_discarded(
    workers: tuple[Any, Any], context: Any
) -> None:
    folder = workers[0].folder
    schedules = list(context.generate_design_space())[:2]
    done, _, _ = measure(schedules, context, *workers, confirm=True)
    assert len(done) == 2
    best, other = sorted(done, key=lambda m: m.run_s)
    assert os.path.exists(str(best.builder_result.artifact_path))
    assert os.listdir(folder) == [
        os.path.basename(os.path.dirname(str(best.builder_result.artifact_path)))
    ]
    other.discard()
    assert len(os.listdir(folder)) == 1
    best.discard()
    assert os.listdir(folder) == []


def test_a_newcomer_is_really_timed_beside_the_kept_library(
    workers: tuple[Any, Any], context: Any
) -> None:
    plain = load_tvm().s_tir.Schedule(context.mod)
    (incumbent,), _, _ = measure([plain], context, *workers, confirm=True)
    first = [float(s) for s in incumbent.runner_result.run_secs]
    # as if recorded when the machine was four times as slow: the same program seems to win by far
    incumbent.retime([4.0 * s for s in first])
    (again,), _, _ = measure([plain], context, *workers, confirm=True, incumbent=incumbent)
    assert len(again.runner_result.run_secs) > len(first)
    assert again.run_s == pytest.approx(incumbent.run_s, rel=0.4)
    for one in (incumbent, again):
        assert os.path.exists(str(one.builder_result.artifact_path))
        one.discard()
    assert os.listdir(workers[0].folder) == []
