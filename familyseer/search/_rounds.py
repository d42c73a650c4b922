"""One round of one subgraph: candidates planned, then built, measured, committed and learnt from.

Planning and carrying out are apart so that the next round can be planned while this one builds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from familyseer.measure._measure import Measured, measure
from familyseer.measure._timing import expect_model
from familyseer.records._files import FAILED_RUN_S
from familyseer.search._builds import BuildTimes
from familyseer.search._clock import Clock
from familyseer.search._plan import Plan
from familyseer.search._policy import FORESEE_GAIN, appetite_after
from familyseer.search._proposals import Look, Proposals
from familyseer.search._siblings import Siblings
from familyseer.search._starters import Start, Starters
from familyseer.search._task import TaskState
from familyseer.tactics import Tactics
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    from familyseer.check import Checker

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule

ASSUMED_TRIAL_S = 0.25
# seconds of search for each second of building and measuring; past this, measuring teaches more.
# Most of it runs beside a round's last builds, which leave cores idle
SEARCH_SHARE = 1.0
# below this a subgraph may be fastest as TVM leaves it: starting threads costs more than it saves
SMALL_FLOPS = 1e6
# an untrained model's evolution is wasted time; so many samples of its family make it worth it
SAMPLES_TO_EVOLVE = 12
# of other subgraphs alone: a few of each, or it evolves towards the first one's likes
SAMPLES_TO_EVOLVE_FIRST = 32
# full rounds without gain after which every other search of a subgraph looks elsewhere
STALLED = 1.0
# candidates of a round that may give one of its places to what a sibling has found
LEAST_TO_HEAR = 4


class Rounds:
    """Plans and carries out rounds.

    Parameters
    ----------
    states, contexts
        The subgraphs' states and tuning contexts, in the same order.
    max_trials, max_trials_per_task
        Most candidates measured in all and of one subgraph, or None.
    on_measured
        Called with the state and what was measured after each round.
    tactics
        What the search does beyond sampling and ranking.
    starters
        What earlier runs know of subgraphs, by subgraph key.
    checker
        A `familyseer.check.Checker`: a candidate that would be its subgraph's best and is found
        wrong counts as failed. None takes every candidate at its word.
    measure
        Takes the place of `familyseer.measure._measure.measure`, to write down or to retell.
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
        on_measured: Callable[[TaskState, list[Measured]], None] = lambda _state, _done: None,
        tactics: Tactics | None = None,
        starters: Mapping[str, Starters] | None = None,
        checker: Checker | None = None,
        measure: Callable[..., tuple[list[Measured], float, float]] = measure,
    ) -> None:
        self._measure = measure
        self.builder = builder
        self.runner = runner
        self.database = database
        self.cost_model = cost_model
        self.clock = clock
        self.max_trials = max_trials
        self.max_trials_per_task = max_trials_per_task
        self.on_measured = on_measured
        self.tactics = tactics or Tactics()
        self.checker = checker
        self.trials = 0
        self._build_times = BuildTimes()
        self.states = list(states)
        expect_model(runner, [state.subgraph for state in states])
        self._contexts = dict(zip(map(id, states), contexts, strict=True))
        self._proposals = {
            key: Proposals(
                context,
                database,
                cost_model,
                max_trials_per_task,
                clock=clock,
                cascade=self.tactics.cascade,
            )
            for key, context in self._contexts.items()
        }
        for state in states:
            self._proposals[id(state)].remember(state.elite)
        self._workloads: dict[int, Any] = {}
        known = starters or {}
        self._starts = {
            key: Start(context.mod, known.get(state.subgraph.key, Starters()))
            for state, (key, context) in zip(states, self._contexts.items(), strict=True)
        }
        self._siblings = Siblings(self.states, self._proposals, self._starts)

    def close(self) -> None:
        """Lets go of the search strategies, and of the libraries kept for comparison."""
        for state in self.states:
            if state.incumbent is not None:
                state.incumbent.discard()
                state.incumbent = None
        for proposals in self._proposals.values():
            proposals.close()

    def typical_trial_s(self) -> float:
        """Wall-clock seconds that a candidate of this run has cost on average; 0 before any."""
        spent = sum(s.seconds for s in self.states)
        tried = sum(s.trials for s in self.states)
        return spent / tried if tried else 0.0

    def plan(self, state: TaskState, kind: str, count: int) -> Plan:
        """At most `count` candidates for a subgraph; none if there is nothing worth measuring."""
        began = self.clock.now()
        proposals, start = self._proposals[id(state)], self._starts[id(state)]
        count = self._affordable(state, count)
        if count < 1:
            state.exhausted = True
            return Plan(kind, state, [], 0.0)
        hears = self.tactics.seeds and listens(state, kind, count)
        with self.clock.phase("search"):
            openers = start.openers(count)
            schedules: list[Any] = []
            if len(openers) < count:
                schedules, scores = proposals.propose(
                    count - len(openers),
                    elite=[*openers, *(sch for _, sch in state.elite)],
                    evolve=self._model_ready(state, kind),
                    time_for_search_s=self._time_for_search(count),
                    news=self._siblings.news(state) if hears else (),
                    seeds=self._siblings.seeds(state, count) if self.tactics.seeds else (),
                    seeds_first=kind == "first",
                    look=_look(state, kind),
                )
                if kind == "foresee":
                    schedules = self._worth_measuring(state, proposals, schedules, scores)
        if kind == "first" and self._may_stay_as_it_is(state):
            schedules = [_as_it_is(self._contexts[id(state)].mod), *schedules]
        schedules = [*openers, *start.unopened(schedules)][:count]
        plan = Plan(kind, state, schedules, self.clock.now() - began)
        if not schedules and kind != "foresee":
            state.close_round(plan.search_s, 0)
        elif not schedules:
            # nothing looked worth measuring, which says nothing about the space being used up
            state.seconds += plan.search_s
        return plan

    def give_up(self, plan: Plan) -> None:
        """Stops what was built ahead for a plan that will not be carried out."""
        plan.drop_builds(self.builder)

    def build_ahead(self, plan: Plan) -> None:
        """Starts a plan's builds before its round, while another one's candidates are measured.

        Only for a runner that is `undisturbed` by it, as GPUs are; devices of a fleet may be this
        machine's. Nothing is decided here, so a replay need not know of it: the clock is asked off
        the record.
        """
        if getattr(self.runner, "undisturbed", False) and hasattr(self.builder, "drop"):
            limit_s = self._build_times.limit_s(self.clock.live.tuning_left_s())
            plan.start_builds(self.builder, self._contexts[id(plan.state)].target, limit_s)

    def carry_out(self, plan: Plan, meanwhile: Callable[[], None] | None = None) -> list[Measured]:
        """Builds, measures, commits and learns from a plan's candidates.

        Parameters
        ----------
        meanwhile
            Called while candidates build, if the builder builds in the background; its time is not
            booked on this subgraph.
        """
        began = self.clock.now()
        state, key = plan.state, id(plan.state)
        proposals = self._proposals[key]
        schedules = plan.schedules[: self._affordable(state, len(plan.schedules))]
        proposals.forget(plan.schedules[len(schedules) :])
        plan.drop_builds(self.builder, len(schedules))
        aside_s = 0.0

        def aside() -> None:
            nonlocal aside_s
            if meanwhile is not None:
                left_at = self.clock.now()
                meanwhile()
                aside_s = self.clock.now() - left_at

        done, build_s, run_s = self._measure(
            schedules,
            self._contexts[key],
            self.builder,
            self.runner,
            time_left=self.clock.live.tuning_left_s,
            cutoff_s=state.best_s if state.covered else None,
            build_timeout_s=self._build_times.limit_s(self.clock.tuning_left_s()),
            meanwhile=aside,
            incumbent=state.incumbent,
            confirm=self.tactics.confirm,
            now=self.clock.live.now,
            group=state.subgraph.key,
            priority=sum(s.family == state.family and not s.exhausted for s in self.states) - 1.0,
            builds=plan.builds or None,
            spilling=state.spills,
        )
        self._build_times.add([m.build_s for m in done if not m.build_failed])
        phases = self.clock.phases
        phases["build"] = phases.get("build", 0.0) + max(0.0, build_s - aside_s)
        phases["measure"] = phases.get("measure", 0.0) + run_s
        # a wrong one's library is gone, and no other of the round was kept
        all_right = self._refuse_wrong(state, done)
        proposals.notify([m.candidate for m in done], [m.runner_result for m in done])
        if self.tactics.confirm and all_right:
            self._succeed(state, done)
        self._book(state, done)
        proposals.tell((m.run_s, m.candidate.sch) for m in done)
        state.appetite = appetite_after(state.appetite, [m.run_s for m in done])
        self._learn(state, done)
        own_s = plan.search_s + self.clock.now() - began - aside_s
        state.close_round(own_s, len(done) or len(schedules))
        state.exhausted = state.exhausted or proposals.used_up
        return done

    def _model_ready(self, state: TaskState, kind: str) -> bool:
        ask = getattr(self.cost_model, "experience", None)
        known = ask(state.family) if ask is not None else self.trials
        return bool(known >= (SAMPLES_TO_EVOLVE_FIRST if kind == "first" else SAMPLES_TO_EVOLVE))

    def _may_stay_as_it_is(self, state: TaskState) -> bool:
        on_cpu = str(self._contexts[id(state)].target.kind.name) == "llvm"
        return on_cpu and state.subgraph.flops <= SMALL_FLOPS

    def _affordable(self, state: TaskState, count: int) -> int:
        if self.max_trials is not None:
            count = min(count, self.max_trials - self.trials)
        if self.max_trials_per_task is not None:
            count = min(count, self.max_trials_per_task - state.trials)
        per_trial = state.seconds_per_trial or self.typical_trial_s()
        left = self.clock.tuning_left_s()
        if per_trial and math.isfinite(left):
            count = min(count, max(1, int(left / per_trial)))
        return max(0, count)

    def _time_for_search(self, count: int) -> float:
        """A share of what the round's building and measuring take, and of what is left."""
        spent = self.clock.phases.get("build", 0.0) + self.clock.phases.get("measure", 0.0)
        per_trial = spent / self.trials if self.trials else ASSUMED_TRIAL_S
        return min(SEARCH_SHARE * count * per_trial, 0.25 * self.clock.tuning_left_s())

    def _worth_measuring(
        self, state: TaskState, proposals: Proposals, schedules: list[Any], scores: Any
    ) -> list[Any]:
        """Those that the model holds to be clearly better than the best measured one."""
        if not state.elite or not schedules:
            return schedules
        least = FORESEE_GAIN * float(proposals.scores([state.elite[0][1]])[0])
        worth = [sch for sch, score in zip(schedules, scores, strict=True) if score >= least]
        proposals.forget([sch for sch in schedules if not any(sch is w for w in worth)])
        return worth

    def _refuse_wrong(self, state: TaskState, done: list[Measured]) -> bool:
        """Makes failures of those that would be the best and are wrong; False if there were any."""
        refused = False
        while self.checker is not None:
            best = min(done, key=lambda m: m.run_s, default=None)
            if best is None or best.run_s >= state.best_s:
                break
            with self.clock.phase("check"):
                # measuring keeps the best one's library at most
                library = str(best.builder_result.artifact_path)
                verdict = self.checker.check_in_passing(
                    state.subgraph,
                    best.candidate.sch,
                    library if os.path.exists(library) else None,
                    self.clock.live.tuning_left_s,
                )
            if not verdict.wrong:
                break
            best.runner_result = ms.runner.RunnerResult(None, verdict.reason)
            best.run_s = math.inf
            best.discard()
            refused = True
        return not refused

    def _succeed(self, state: TaskState, done: list[Measured]) -> None:
        """Keeps the library of the best candidate, and no other."""
        best = min(done, key=lambda m: m.run_s, default=None)
        if best is None or not math.isfinite(best.run_s):
            return
        if state.incumbent is None or best.run_s < state.incumbent.run_s:
            best, state.incumbent = state.incumbent, best
        if best is not None:
            best.discard()

    def _book(self, state: TaskState, done: list[Measured]) -> None:
        context = self._contexts[id(state)]
        if id(state) not in self._workloads:
            self._workloads[id(state)] = self.database.commit_workload(context.mod)
        for one in done:
            state.trials += 1
            self.trials += 1
            state.build_errors += one.build_failed
            state.run_errors += one.run_failed
            failed = one.build_failed or one.run_failed
            self.database.commit_tuning_record(
                ms.database.TuningRecord(
                    one.candidate.sch.trace,
                    self._workloads[id(state)],
                    [FAILED_RUN_S] if failed else list(one.runner_result.run_secs),
                    context.target,
                    one.candidate.args_info,
                )
            )
            if not failed:
                if one.run_s < state.best_s:
                    state.best_s, state.build_s, state.spills = one.run_s, one.build_s, one.spills
                state.remember(one.run_s, one.candidate.sch)

    def _learn(self, state: TaskState, done: list[Measured]) -> None:
        if done:
            with self.clock.phase("train"):
                # failed ones too: a model that is not told of them proposes their like again
                self.cost_model.update(
                    self._contexts[id(state)],
                    [m.candidate for m in done],
                    [m.runner_result for m in done],
                )
                self._learn_resources(state, done)
        self.on_measured(state, done)

    def _learn_resources(self, state: TaskState, done: list[Measured]) -> None:
        """After the model was judged by what it knew before these were built."""
        tell = getattr(self.cost_model, "learn_resources", None)
        known = [m for m in done if m.resources is not None]
        if tell is not None and known:
            context = self._contexts[id(state)]
            tell(context, [m.candidate for m in known], [m.resources for m in known])


def listens(state: TaskState, kind: str, count: int) -> bool:
    """Whether a round has a place for a sibling's find: not while its own search gets on."""
    return kind == "steepest" and count >= LEAST_TO_HEAR and state.stalls >= STALLED


def _look(state: TaskState, kind: str) -> Look:
    """How far the search for a subgraph's next candidates goes: every other time far."""
    if kind == "foresee":
        return Look.BACK
    if state.rounds % 2 == 0:
        return Look.NEAR
    # siblings make a young subgraph sure of too little: its second round already looks elsewhere
    return Look.ELSEWHERE if state.rounds % 4 == 1 or state.stalls >= STALLED else Look.WIDE


def _as_it_is(mod: Any) -> Any:
    """A schedule that changes nothing, with one instruction so that it counts as a record."""
    schedule = tvm.s_tir.Schedule(mod)
    schedule.get_sblock("root")
    return schedule
