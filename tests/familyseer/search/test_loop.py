"""The loop over real subgraphs, real builds and real runs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from costmodels import FamilyCostModel
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.search import BudgetLoop, Clock, Round, Rounds, TaskState
from familyseer.search._proposals import new_context
from familyseer.tvm_env import load_tvm

SIZES = (32, 64, 128)


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[Any, Any]]:
    builder, runner = WarmBuilder(workers=2), WarmRunner()
    yield builder, runner
    builder.close()
    runner.close()


class Run:
    """Three matmuls of one family, ready to be tuned."""

    def __init__(self, cpu: Any, make_dense: Any, workers: tuple[Any, Any]) -> None:
        self.subgraphs = [make_dense(n, n, n, index=i) for i, n in enumerate(SIZES)]
        self.states = [TaskState(s, "matmul") for s in self.subgraphs]
        self.contexts = [new_context(s, cpu, seed=0, threads=2) for s in self.subgraphs]
        self.database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
        self.model = FamilyCostModel({s.key: "matmul" for s in self.subgraphs})
        self.workers = workers
        self.seen: list[Round] = []
        self.clock = Clock(None)

    def loop(self, clock: Clock | None = None, **limits: Any) -> BudgetLoop:
        self.clock = clock or Clock(120.0)
        rounds = Rounds(
            self.states,
            self.contexts,
            builder=self.workers[0],
            runner=self.workers[1],
            database=self.database,
            cost_model=self.model,
            clock=self.clock,
            **limits,
        )
        return BudgetLoop(rounds, round_trials=4, on_round=self.saw)

    def saw(self, done: Round) -> None:
        self.seen.append(done)


@pytest.fixture
def run(cpu: Any, make_dense: Any, workers: tuple[Any, Any]) -> Run:
    return Run(cpu, make_dense, workers)


def test_every_subgraph_is_measured_first_and_the_heaviest_before_all(run: Run) -> None:
    assert run.loop(max_trials=24).run() == "trials"
    first = [r.state.index for r in run.seen if r.kind == "first"]
    assert first == [2, 1, 0]
    assert [r.kind for r in run.seen[:3]] == ["first"] * 3
    assert all(r.why for r in run.seen)
    assert all(state.covered for state in run.states)
    assert run.seen[-1].estimated_s == pytest.approx(sum(s.best_s for s in run.states))


def test_the_trial_limit_is_kept_to_the_last_one_and_all_are_recorded(run: Run) -> None:
    loop = run.loop(max_trials=13)
    assert loop.run() == "trials"
    assert loop.trials == len(run.database) == sum(s.trials for s in run.states) == 13


def test_the_limit_of_one_subgraph_ends_with_the_space(run: Run) -> None:
    assert run.loop(max_trials_per_task=5).run() == "space exhausted"
    assert [s.trials for s in run.states] == [5, 5, 5]


def test_the_deadline_is_kept(run: Run) -> None:
    began = time.monotonic()
    clock = Clock(10.0)
    clock.reserve_s = 2.0
    assert run.loop(clock).run() == "budget"
    assert time.monotonic() - began < 10.0
    assert set(clock.phases) >= {"search", "build", "measure", "train"}


def test_a_stop_ends_the_run_within_a_round(run: Run) -> None:
    loop = run.loop(Clock(None))

    def stop_after_two(done: Round) -> None:
        run.seen.append(done)
        if len(run.seen) == 2:
            run.clock.stop()

    loop.on_round = stop_after_two
    began = time.monotonic()
    assert loop.run() == "interrupt"
    assert time.monotonic() - began < 30
    assert len(run.seen) <= 3


def test_siblings_learn_in_one_model(run: Run) -> None:
    run.loop(max_trials=30).run()
    assert run.model.families() == ["matmul"]
    assert run.model.samples("matmul") >= 25


def test_time_is_booked_on_the_subgraph_that_spent_it(run: Run) -> None:
    began = time.monotonic()
    run.loop(max_trials=24).run()
    took = time.monotonic() - began
    booked = sum(s.seconds for s in run.states)
    assert 0.5 * took < booked < 1.2 * took


def test_a_builder_that_always_fails_leaves_subgraphs_uncovered_and_ends(run: Run) -> None:
    tvm = load_tvm()
    ms = tvm.s_tir.meta_schedule

    @tvm.ir.utils.derived_object
    class Broken(ms.builder.PyBuilder):
        def build(self, build_inputs: Any) -> Any:
            return [ms.builder.BuilderResult(None, "no compiler") for _ in build_inputs]

    run.workers = (Broken(), run.workers[1])
    assert run.loop(max_trials=20).run() == "trials"
    assert all(math.isinf(s.best_s) for s in run.states)
    assert sum(s.build_errors for s in run.states) == 20
    assert run.seen[-1].estimated_s is None


class _Elsewhere:
    """The real runner, said to measure elsewhere; notes how many builds wait while it does."""

    dispatches = undisturbed = True

    def __init__(self, runner: WarmRunner, builds: list[Any]) -> None:
        self.runner = runner
        self.builds = builds
        self.ahead: list[int] = []
        self.plan = runner.plan

    def start(self, *args: Any, group: str | None, priority: float) -> Any:
        return self.runner.start(*args)

    def finish(self, future: Any, *args: Any) -> Any:
        self.ahead.append(len(self.builds))
        return self.runner.finish(future, *args)


class _Noted:
    """The real builder, and the builds that were started and not asked for yet."""

    def __init__(self, builder: WarmBuilder) -> None:
        self.builder = builder
        self.started: list[Any] = []

    def start(self, *args: Any) -> Any:
        future = self.builder.start(*args)
        self.started.append(future)
        return future

    def finish(self, future: Any, *args: Any) -> Any:
        self.started.remove(future)
        return self.builder.finish(future, *args)

    def drop(self, future: Any) -> None:
        self.builder.drop(future)


def test_the_next_round_builds_while_this_one_is_measured_elsewhere(
    cpu: Any, make_dense: Any, workers: tuple[Any, Any]
) -> None:
    builder = _Noted(workers[0])
    runner = _Elsewhere(workers[1], builder.started)
    run = Run(cpu, make_dense, (builder, runner))
    loop = run.loop(max_trials=24)
    assert loop.run() == "trials"
    assert loop.trials == len(run.database) == 24
    assert all(state.covered for state in run.states)
    # a whole first round of another subgraph
    assert max(runner.ahead) >= 5
    # what was started for a round that never came was given up
    assert all(future.done() for future in builder.started)
    assert os.listdir(workers[0].folder) == []


def test_on_this_machine_nothing_builds_while_candidates_are_measured(
    cpu: Any, make_dense: Any, workers: tuple[Any, Any]
) -> None:
    builder = _Noted(workers[0])
    runner = _Elsewhere(workers[1], builder.started)
    runner.dispatches = runner.undisturbed = False
    runner.start = lambda *args: workers[1].start(*args)  # type: ignore[method-assign]
    assert Run(cpu, make_dense, (builder, runner)).loop(max_trials=13).run() == "trials"
    assert max(runner.ahead) == 0
