"""The budget loop: which subgraph gets the next round, how long a round is, when it is over."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from familyseer.measure._measure import Measured
from familyseer.search._plan import Plan
from familyseer.search._policy import (
    estimated_latency_s,
    sibling_to_foresee,
    steepest,
    why_steepest,
)
from familyseer.search._rounds import ASSUMED_TRIAL_S, Rounds
from familyseer.search._task import TaskState

# the first pass may take this share of the tuning time, so that the rest can be spent well
FIRST_PASS_SHARE = 0.3
FIRST_PASS_TRIALS = 5
# few, for what is learnt from one round makes the next one better; on the recorded tables rounds of
# 4 need a fifth fewer measurements than rounds of 16, but each round has a search to pay for
ROUND_TRIALS = 8
# of a round, as the 16 of 64 of FamilySeer's authors
FORESEE_SHARE = 0.25
# a round is a small part of the run, or a short run is a few guesses that nothing was learnt from
ROUND_SHARE = 0.04
LEAST_ROUND_TRIALS = 4


@dataclass(frozen=True)
class Round:
    """One finished round, as observers see it.

    Attributes
    ----------
    kind
        ``first``, ``steepest`` or ``foresee``.
    why
        The reason for it, for people.
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
    why: str = ""


def _nothing(_state: TaskState) -> None:
    pass


class BudgetLoop:
    """Spends a time or trial budget over a model's subgraphs.

    While the candidates of one round build, those of the next are searched for, so a round is
    planned without the results of the one before it; it goes to another subgraph for that reason,
    where there is one.

    Parameters
    ----------
    rounds
        Plans and carries out the rounds; it knows the subgraphs, the clock and the limits.
    round_trials
        Candidates in a full round.
    on_round
        Called with its summary after each round.
    """

    def __init__(
        self,
        rounds: Rounds,
        *,
        round_trials: int = ROUND_TRIALS,
        on_round: Callable[[Round], None] = lambda _: None,
    ) -> None:
        self.states = rounds.states
        self.clock = rounds.clock
        self.max_trials = rounds.max_trials
        self.round_trials = round_trials
        self.on_round = on_round
        self._rounds = rounds

    @property
    def trials(self) -> int:
        """Candidates measured so far."""
        return self._rounds.trials

    def run(self) -> str:
        """Tunes until something ends it.

        Returns
        -------
        str
            What ended it: ``budget``, ``trials``, ``interrupt`` or ``space exhausted``.
        """
        try:
            self._first_pass()
            foresee = self._foresee if self._rounds.tactics.foresee else _nothing
            self._in_turn(self._plan_steepest, after=foresee)
            return self._over() or "space exhausted"
        finally:
            self._rounds.close()

    def _over(self) -> str | None:
        if self.clock.stopped:
            return "interrupt"
        if self.max_trials is not None and self.trials >= self.max_trials:
            return "trials"
        # a round that could not finish one candidate is not worth starting
        if self.clock.tuning_left_s() <= self._rounds.typical_trial_s():
            return "budget"
        return None

    def _in_turn(
        self,
        plan_next: Callable[[TaskState | None], Plan | None],
        after: Callable[[TaskState], None] = _nothing,
    ) -> None:
        """Carries out plans, the next one made while the present one builds, until none is left.

        Where that disturbs no timing, the next one's candidates are built while the present one's
        are measured.

        `plan_next` is given the subgraph that is busy, if any.
        """
        plan = plan_next(None) if self._over() is None else None
        while plan is not None and self._over() is None:
            ahead: list[Plan | None] = []
            self._carry_out(plan, partial(self._plan_ahead, plan_next, plan.state, ahead))
            if self._over() is None:
                after(plan.state)
            if ahead and ahead[0] is not None:
                plan = ahead[0]
            else:
                plan = plan_next(None) if self._over() is None else None
        if plan is not None:
            self._rounds.give_up(plan)

    def _plan_ahead(
        self,
        plan_next: Callable[[TaskState | None], Plan | None],
        busy: TaskState,
        ahead: list[Plan | None],
    ) -> None:
        if self._over() is None:
            plan = plan_next(busy)
            if plan is not None:
                self._rounds.build_ahead(plan)
            ahead.append(plan)

    def _carry_out(self, plan: Plan, meanwhile: Callable[[], None] | None = None) -> None:
        done = self._rounds.carry_out(plan, meanwhile)
        self._report(plan, done)

    def _first_pass(self) -> None:
        """Gives every subgraph a few candidates, the heaviest first, in a share of the time."""
        waiting = [s for s in self.states if not s.covered and not s.exhausted]
        # heaviest first: should time run out, what matters most has a schedule
        waiting.sort(key=lambda s: -s.subgraph.flops * s.subgraph.weight)
        until = self.clock.now() + FIRST_PASS_SHARE * self.clock.tuning_left_s()
        self._in_turn(partial(self._plan_first, deque(waiting), until))

    def _plan_first(
        self, waiting: deque[TaskState], until: float, _busy: TaskState | None
    ) -> Plan | None:
        while waiting:
            share = max(0.0, until - self.clock.now()) / len(waiting)
            per_trial = self._rounds.typical_trial_s() or ASSUMED_TRIAL_S
            count = FIRST_PASS_TRIALS if math.isinf(share) else int(share / per_trial)
            if self.max_trials is not None:
                affordable = FIRST_PASS_SHARE * (self.max_trials - self.trials)
                count = min(count, int(affordable / len(waiting)))
            state = waiting.popleft()
            plan = self._rounds.plan(state, "first", max(1, min(FIRST_PASS_TRIALS, count)))
            if plan.schedules:
                plan.why = "every subgraph once, the heaviest first"
                return plan
        return None

    def _plan_steepest(self, busy: TaskState | None) -> Plan | None:
        while self._over() is None:
            others = [s for s in self.states if s is not busy]
            state = steepest(others) or steepest(self.states)
            if state is None:
                return None
            why = why_steepest(state, self.states)
            plan = self._rounds.plan(state, "steepest", self._round_size(state))
            if plan.schedules:
                plan.why = why
                return plan
        return None

    def _round_size(self, state: TaskState) -> int:
        most = float(self.round_trials)
        if self._rounds.tactics.adaptive:
            most *= state.appetite
        left = self.clock.tuning_left_s()
        per_trial = state.seconds_per_trial or self._rounds.typical_trial_s()
        if math.isfinite(left) and per_trial:
            window = left + sum(s.seconds for s in self.states)
            most = min(most, ROUND_SHARE * window / per_trial)
        # whatever the number of workers: the same measurements give the same decisions
        return max(min(LEAST_ROUND_TRIALS, self.round_trials), round(most))

    def _foresee(self, tuned: TaskState) -> None:
        sibling = sibling_to_foresee(self.states, tuned, self._accuracy)
        if sibling is None:
            return
        count = max(1, round(FORESEE_SHARE * self._round_size(tuned)))
        plan = self._rounds.plan(sibling, "foresee", count)
        if plan.schedules:
            accuracy = self._accuracy(sibling) or 0.0
            plan.why = f"kin of {tuned.subgraph.name}, ranked {accuracy:.0%} right"
            self._carry_out(plan)

    def _accuracy(self, state: TaskState) -> float | None:
        """Ranking accuracy on a subgraph, or of its family's model while that is not known."""
        cost_model = self._rounds.cost_model
        for name, key in (("accuracy_on", state.subgraph.key), ("accuracy", state.family)):
            ask = getattr(cost_model, name, None)
            value = ask(key) if ask is not None else None
            if value is not None:
                return float(value)
        return None

    def _report(self, plan: Plan, done: list[Measured]) -> None:
        self.on_round(
            Round(
                kind=plan.kind,
                state=plan.state,
                measured=len(done),
                build_errors=sum(m.build_failed for m in done),
                run_errors=sum(m.run_failed for m in done),
                trials=self.trials,
                elapsed_s=self.clock.elapsed_s(),
                estimated_s=estimated_latency_s(self.states),
                covered=sum(s.covered for s in self.states),
                subgraphs=len(self.states),
                accuracy=self._accuracy(plan.state),
                why=plan.why,
            )
        )
