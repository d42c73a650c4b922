"""The budget loop: pick a subgraph, propose, build, measure, commit, learn, until time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.measure._measure import Measured, measure
from familyseer.search._builds import BuildTimes
from familyseer.search._clock import Clock
from familyseer.search._policy import (
    estimated_latency_s,
    sibling_to_foresee,
    steepest,
)
from familyseer.search._proposals import Proposals
from familyseer.search._task import TaskState
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule

FAILED_RUN_S = 1e10  # what MetaSchedule's own callback records for a candidate that failed
# the first pass may take this share of the tuning time, so that the rest can be spent well
FIRST_PASS_SHARE = 0.3
FIRST_PASS_TRIALS = 8
ROUND_TRIALS = 16
FORESEE_TRIALS = 4
# a round is a small part of the run, or a short run is a few guesses that nothing was learnt from
ROUND_SHARE = 0.04
LEAST_ROUND_TRIALS = 4
ASSUMED_TRIAL_S = 0.25
# below this a subgraph may be fastest as TVM leaves it: starting threads costs more than it saves
SMALL_FLOPS = 1e6
# an untrained model's evolution is wasted time; so many samples of its family make it worth it
SAMPLES_TO_EVOLVE = 12


@dataclass(frozen=True)
class Round:
    """One finished round, as observers see it.

    Attributes
    ----------
    kind
        ``first``, ``steepest`` or ``foresee``.
    measured
        Candidates measured, the failed ones included.
    estimated_s
        The model's latency estimated from its subgraphs, None while one has no valid schedule.
    accuracy
        Ranking accuracy of the family's model, None while unknown.
    """

    kind: str
    state: TaskState
    measured: int
    build_errors: int
    run_errors: int
    trials: int
    elapsed_s: float
    estimated_s: float | None
    covered: int
    subgraphs: int
    accuracy: float | None


class BudgetLoop:
    """Spends a time or trial budget over a model's subgraphs.

    Parameters
    ----------
    states, contexts
        The subgraphs' states and tuning contexts, in the same order.
    max_trials
        Most candidates measured in all, or None.
    round_trials
        Candidates in a full round.
    on_round, on_measured
        Called after each round: with its summary, and with the state and what was measured.
    """

    def __init__(
        self,
        states: Sequence[TaskState],
        contexts: Sequence[Any],
        *,
        builder: Any,
        runner: Any,
        database: Any,
        cost_model: Any,
        clock: Clock,
        max_trials: int | None = None,
        max_trials_per_task: int | None = None,
        round_trials: int = ROUND_TRIALS,
        on_round: Callable[[Round], None] = lambda _: None,
        on_measured: Callable[[TaskState, list[Measured]], None] = lambda _state, _done: None,
    ) -> None:
        self.states = list(states)
        self.builder = builder
        self.runner = runner
        self.database = database
        self.cost_model = cost_model
        self.clock = clock
        self.max_trials = max_trials
        self.max_trials_per_task = max_trials_per_task
        self.round_trials = round_trials
        self.on_round = on_round
        self.on_measured = on_measured
        self.trials = 0
        self._build_times = BuildTimes()
        self._proposals = [
            Proposals(context, database, cost_model, max_trials_per_task) for context in contexts
        ]
        self._args_info = [
            ms.arg_info.ArgInfo.from_entry_func(context.mod, remove_preproc=True)
            for context in contexts
        ]
        self._contexts = list(contexts)
        self._workloads: dict[int, Any] = {}
        self._at = {id(state): i for i, state in enumerate(self.states)}

    def run(self) -> str:
        """Tunes until something ends it.

        Returns
        -------
        str
            What ended it: ``budget``, ``trials``, ``interrupt`` or ``space exhausted``.
        """
        try:
            self._first_pass()
            while (reason := self._over()) is None:
                state = steepest(self.states)
                if state is None:
                    return "space exhausted"
                self._round(state, "steepest", self._round_size(state))
                if self._over() is None:
                    self._foresee(state)
            return reason
        finally:
            for proposals in self._proposals:
                proposals.close()

    def _over(self) -> str | None:
        if self.clock.stopped:
            return "interrupt"
        if self.max_trials is not None and self.trials >= self.max_trials:
            return "trials"
        # a round that could not finish one candidate is not worth starting
        if self.clock.tuning_left_s() <= self._typical_trial_s():
            return "budget"
        return None

    def _round_size(self, state: TaskState) -> int:
        left = self.clock.tuning_left_s()
        per_trial = state.seconds_per_trial or self._typical_trial_s()
        if math.isinf(left) or not per_trial:
            return self.round_trials
        window = left + sum(s.seconds for s in self.states)
        count = int(ROUND_SHARE * window / per_trial)
        return max(min(LEAST_ROUND_TRIALS, self.round_trials), min(self.round_trials, count))

    def _typical_trial_s(self) -> float:
        spent = sum(s.seconds for s in self.states)
        tried = sum(s.trials for s in self.states)
        return spent / tried if tried else 0.0

    def _first_pass(self) -> None:
        """Gives every subgraph a few candidates, the heaviest first, in a share of the time."""
        waiting = [s for s in self.states if not s.covered and not s.exhausted]
        # heaviest first: should time run out, what matters most has a schedule
        waiting.sort(key=lambda s: -s.subgraph.flops * s.subgraph.weight)
        window = FIRST_PASS_SHARE * self.clock.tuning_left_s()
        until = time.monotonic() + window
        for position, state in enumerate(waiting):
            if self._over() is not None:
                return
            share = max(0.0, until - time.monotonic()) / (len(waiting) - position)
            per_trial = self._typical_trial_s() or ASSUMED_TRIAL_S
            count = FIRST_PASS_TRIALS if math.isinf(share) else int(share / per_trial)
            if self.max_trials is not None:
                affordable = FIRST_PASS_SHARE * (self.max_trials - self.trials)
                count = min(count, int(affordable / (len(waiting) - position)))
            self._round(state, "first", max(1, min(FIRST_PASS_TRIALS, count)))

    def _foresee(self, tuned: TaskState) -> None:
        sibling = sibling_to_foresee(self.states, tuned, self._accuracy)
        if sibling is not None:
            self._round(sibling, "foresee", FORESEE_TRIALS)

    def _accuracy(self, state: TaskState) -> float | None:
        """Ranking accuracy on a subgraph, or of its family's model while that is not known."""
        for name, key in (("accuracy_on", state.subgraph.key), ("accuracy", state.family)):
            ask = getattr(self.cost_model, name, None)
            value = ask(key) if ask is not None else None
            if value is not None:
                return float(value)
        return None

    def _model_ready(self, state: TaskState) -> bool:
        ask = getattr(self.cost_model, "samples", None)
        known = ask(state.family) if ask is not None else self.trials
        return bool(known >= SAMPLES_TO_EVOLVE)

    def _round(self, state: TaskState, kind: str, count: int) -> None:
        began = time.monotonic()
        at = self._at[id(state)]
        proposals = self._proposals[at]
        count = self._affordable(state, count)
        if count < 1:
            state.exhausted = self.max_trials_per_task is not None
            return
        with self.clock.phase("search"):
            evolve = kind != "first" and self._model_ready(state)
            schedules, scores = proposals.propose(
                count,
                elite=[sch for _, sch in state.elite],
                evolve=evolve,
                time_for_search_s=self._time_for_search(state, count),
            )
            if kind == "foresee":
                schedules = self._worth_measuring(state, proposals, schedules, scores)
        if kind == "first" and self._may_stay_as_it_is(state):
            schedules = [_as_it_is(self._contexts[at].mod), *schedules][:count]
        done: list[Measured] = []
        if schedules:
            done, build_s, run_s = measure(
                schedules,
                self._contexts[at],
                self._args_info[at],
                self.builder,
                self.runner,
                time_left=self.clock.tuning_left_s,
                cutoff_s=state.best_s if state.covered else None,
                build_timeout_s=self._build_times.limit_s(self.clock.tuning_left_s()),
            )
            self._build_times.add([m.build_s for m in done if not m.build_failed])
            self.clock.phases["build"] = self.clock.phases.get("build", 0.0) + build_s
            self.clock.phases["measure"] = self.clock.phases.get("measure", 0.0) + run_s
            proposals.notify([m.candidate for m in done], [m.runner_result for m in done])
            self._book(at, state, done)
            self._learn(at, done)
        if kind == "foresee" and not schedules:
            # nothing looked worth measuring, which says nothing about the space being used up
            state.seconds += time.monotonic() - began
            return
        state.close_round(time.monotonic() - began, len(done) or len(schedules))
        self._report(kind, state, done)

    def _may_stay_as_it_is(self, state: TaskState) -> bool:
        on_cpu = str(self._contexts[self._at[id(state)]].target.kind.name) == "llvm"
        return on_cpu and state.subgraph.flops <= SMALL_FLOPS

    def _affordable(self, state: TaskState, count: int) -> int:
        if self.max_trials is not None:
            count = min(count, self.max_trials - self.trials)
        if self.max_trials_per_task is not None:
            count = min(count, self.max_trials_per_task - state.trials)
        per_trial = state.seconds_per_trial or self._typical_trial_s()
        left = self.clock.tuning_left_s()
        if per_trial and math.isfinite(left):
            count = min(count, max(1, int(left / per_trial)))
        return count

    def _time_for_search(self, state: TaskState, count: int) -> float:
        """As long as the round's building and measuring take, and a quarter of what is left."""
        spent = self.clock.phases.get("build", 0.0) + self.clock.phases.get("measure", 0.0)
        per_trial = spent / self.trials if self.trials else ASSUMED_TRIAL_S
        return min(count * per_trial, 0.25 * self.clock.tuning_left_s())

    def _worth_measuring(
        self, state: TaskState, proposals: Proposals, schedules: list[Any], scores: Any
    ) -> list[Any]:
        """Those that the model holds to be at least as good as the best measured one."""
        if not state.elite or not schedules:
            return schedules
        incumbent = float(proposals.scores([state.elite[0][1]])[0])
        worth = [sch for sch, score in zip(schedules, scores, strict=True) if score >= incumbent]
        proposals.forget([sch for sch in schedules if not any(sch is w for w in worth)])
        return worth

    def _book(self, at: int, state: TaskState, done: list[Measured]) -> None:
        if at not in self._workloads:
            self._workloads[at] = self.database.commit_workload(self._contexts[at].mod)
        for one in done:
            state.trials += 1
            self.trials += 1
            state.build_errors += one.build_failed
            state.run_errors += one.run_failed
            failed = one.build_failed or one.run_failed
            self.database.commit_tuning_record(
                ms.database.TuningRecord(
                    one.candidate.sch.trace,
                    self._workloads[at],
                    [FAILED_RUN_S] if failed else list(one.runner_result.run_secs),
                    self._contexts[at].target,
                    one.candidate.args_info,
                )
            )
            if not failed:
                if one.run_s < state.best_s:
                    state.best_s, state.build_s = one.run_s, one.build_s
                state.remember(one.run_s, one.candidate.sch)

    def _learn(self, at: int, done: list[Measured]) -> None:
        known = [m for m in done if not m.build_failed]
        if known:
            with self.clock.phase("train"):
                self.cost_model.update(
                    self._contexts[at],
                    [m.candidate for m in known],
                    [m.runner_result for m in known],
                )
        self.on_measured(self.states[at], done)

    def _report(self, kind: str, state: TaskState, done: list[Measured]) -> None:
        self.on_round(
            Round(
                kind=kind,
                state=state,
                measured=len(done),
                build_errors=sum(m.build_failed for m in done),
                run_errors=sum(m.run_failed for m in done),
                trials=self.trials,
                elapsed_s=self.clock.elapsed_s(),
                estimated_s=estimated_latency_s(self.states),
                covered=sum(s.covered for s in self.states),
                subgraphs=len(self.states),
                accuracy=self._accuracy(state),
            )
        )


def _as_it_is(mod: Any) -> Any:
    """A schedule that changes nothing, with one instruction so that it counts as a record."""
    schedule = tvm.s_tir.Schedule(mod)
    schedule.get_sblock("root")
    return schedule
