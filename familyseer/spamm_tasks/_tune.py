"""The order of a tuning run: survey, build, measure, choose, keep."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

from familyseer.errors import RunError, UserError
from familyseer.measure._workers import warm_up
from familyseer.progress import FamilyInfo, Observer, RunInfo
from familyseer.run._ctrl_c import ending_on_ctrl_c
from familyseer.run._folder import Identity, RunFolder, check_writable, hold
from familyseer.safe_json import save_json
from familyseer.search import Clock
from familyseer.spamm_tasks._ending import Ending, compare, duel_s, keep
from familyseer.spamm_tasks._kinds import Values, block_of, kind_for
from familyseer.spamm_tasks._problem import Problem, SpammOptions

# seconds of what follows the last round beside measuring
_RESERVE_S = 2.0


def tune_spamm(
    options: SpammOptions,
    a: Any,
    b: Any,
    *,
    started_at: float | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Tunes the product of two matrices and keeps what is fastest for `spamm` on this machine.

    The records are in ``options.out`` as those of a model's run are; `familyseer.spamm_tasks` tells
    how configurations become records.

    Parameters
    ----------
    a, b
        Host matrices (m, k) and (k, n) of one type.
    started_at
        `time.monotonic()` from which the budget counts; by default now.
    observer
        Told of the run as `familyseer.progress` says.

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    UserError
        The matrices, the target or the folder cannot be used, or the target is a GPU and this
        machine has none; nothing was written then.
    RunError
        The folder could not be written any more; what finished rounds measured is in it.
    """
    from familyseer.target import resolve_target

    if options.budget_s is None and options.trials is None:
        raise UserError("neither a budget nor a number of trials is set: expected at least one")
    observer = observer or Observer()
    clock = Clock(options.budget_s, started_at)
    target = resolve_target(options.target)
    if 0 in (*a.shape, *b.shape):
        raise UserError(f"{a.shape} times {b.shape}: expected matrices of at least one element")
    problem = Problem.of(a, b, options.valid_ratio, options.block, options.precision)
    kind = kind_for(problem, target)
    check_writable(options.out)
    warm_up()
    with hold(options.out), ending_on_ctrl_c(clock), ExitStack() as stack:
        return _Run(options, problem, kind, target, clock, observer, stack).tune(a, b)


class _Run:
    def __init__(
        self,
        options: SpammOptions,
        problem: Problem,
        kind: Any,
        target: Any,
        clock: Clock,
        observer: Observer,
        stack: ExitStack,
    ) -> None:
        self.options, self.problem, self.kind, self.target = options, problem, kind, target
        self.clock, self.observer, self.stack = clock, observer, stack
        self.phase = ""
        self.default_s = 0.0

    def tune(self, a: Any, b: Any) -> dict[str, Any]:
        self._enter("loading")
        with self.clock.phase("loading"):
            self._prepare(a, b)
        self._announce()
        stopped_by = self._search()
        self._enter("checking")
        with self.clock.phase("checking"):
            end = compare(self.task, self.state, self.builder, self.runner)
        kept = keep(self.task, end)
        if kept is None and end.config is not None:
            self.observer.on_message("the cache folder cannot be written: nothing is kept there")
        self.folder.save_models(self.model)
        summary = self._summarise(end, stopped_by, kept)
        save_json(self.options.out / "summary.json", summary)
        self.folder.book(self.clock.elapsed_s(), self.rounds.trials, finished=True)
        self.observer.on_end(summary)
        return summary

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase = phase
            self.observer.on_phase(phase)

    def _prepare(self, a: Any, b: Any) -> None:
        from familyseer.records import FailureLog, RecordBook
        from familyseer.spamm_tasks._measuring import ConfigBuilder, ConfigRunner
        from familyseer.spamm_tasks._task import SpammTask

        try:
            self.task = SpammTask(self.problem, self.kind, a, b)
        except ValueError as error:
            raise UserError(str(error)) from None
        identity = Identity(self.problem.name, self.problem.digest, str(self.target))
        self.folder = RunFolder(self.options.out, identity, resume=self.options.resume)
        if self.clock.budget_s is not None:
            # an interrupted run has used that much of it
            self.clock.budget_s -= self.folder.used.unfinished_s
        self.database = RecordBook(self.folder.tuning)
        self.stack.callback(self.database.close)
        self.failures = FailureLog(self.folder.tuning / "failures.jsonl")
        self.stack.callback(self.failures.close)
        self.builder = ConfigBuilder(self.task, a, b, self.options.workers)
        self.stack.callback(self.builder.close)
        self.runner = ConfigRunner(self.kind, self.builder.kernels)
        self.stack.callback(self.runner.close)
        self.rounds = self._rounds()
        self.state = self.rounds.states[0]
        self.trials_before = self.state.trials

    def _rounds(self) -> Any:
        from familyseer.run._history import restore_progress
        from familyseer.run._restore import restore
        from familyseer.search import Rounds, TaskState
        from familyseer.spamm_tasks._model import SpammCostModel
        from familyseer.spamm_tasks._search import ConfigSearch, context_of
        from familyseer.spamm_tasks._workload import FAMILY

        task, options = self.task, self.options
        self.model = SpammCostModel([task], seed=options.seed)
        state = TaskState(task.subgraph, FAMILY)
        search = ConfigSearch(task, self.model, options.seed, self._measured())
        context = context_of(task, search, self.target)
        if self.folder.resumed:
            restore([state], self.database, self.model, self.folder.models, [context])
            restore_progress([state], self.folder.history.rows)
        trials = options.trials
        if trials is not None:
            trials = max(0, trials - self.folder.used.unfinished_trials)
        return Rounds(
            [state],
            [context],
            builder=self.builder,
            runner=self.runner,
            database=self.database,
            cost_model=self.model,
            clock=self.clock,
            max_trials=trials,
            on_measured=self._on_measured,
        )

    def _measured(self) -> list[tuple[Values, float]]:
        """Configurations that earlier runs measured, and their seconds."""
        from familyseer.measure._measure import median_run_s
        from familyseer.records._files import FAILED_S
        from familyseer.spamm_tasks._workload import config_of_trace

        mod = self.task.subgraph.mod
        if not self.database.has_workload(mod):
            return []
        workload = self.database.commit_workload(mod)
        found = []
        for record in self.database.latest(workload, self.database.trials(workload)):
            seconds = median_run_s(record.run_secs) if record.run_secs else math.inf
            config = config_of_trace(record.trace) or self.task.default
            found.append((config, seconds if seconds < FAILED_S else math.inf))
        return found

    def _announce(self) -> None:
        from familyseer.spamm_tasks._workload import FAMILY
        from familyseer.target import describe_target

        self.observer.on_start(
            RunInfo(
                model=self.problem.name,
                target=describe_target(self.target),
                # what an interrupted run left of it
                budget_s=self.clock.budget_s,
                trials=self.options.trials,
                families=(FamilyInfo(FAMILY, (self.problem.name,), 1.0),),
            )
        )

    def _search(self) -> str:
        from familyseer.search import BudgetLoop

        self._enter("tuning")
        self.clock.reserve_s = _RESERVE_S
        return BudgetLoop(self.rounds, on_round=self._on_round).run()

    def _on_measured(self, state: Any, done: list[Any]) -> None:
        from familyseer.records._book import plain
        from familyseer.spamm_tasks._workload import config_of

        before = len(self.database) - len(done)
        for number, one in enumerate(done):
            if config_of(one.candidate.sch.mod) == self.task.default and math.isfinite(one.run_s):
                self.default_s = one.run_s
            if one.build_failed or one.run_failed:
                result = one.builder_result if one.build_failed else one.runner_result
                self.failures.add(
                    subgraph=state.subgraph.name,
                    trial=before + number,
                    phase="build" if one.build_failed else "run",
                    reason=str(result.error_msg),
                    trace=plain(one.candidate.sch.trace.as_json()),
                )

    def _on_round(self, done: Any) -> None:
        from familyseer.run._telling import round_event

        state = self.state
        best_s = state.best_s if state.covered else 0.0
        self.clock.reserve_s = _RESERVE_S + duel_s(best_s, max(best_s, self.default_s))
        best_us = state.best_s * 1e6 if state.covered else None
        elapsed_s = round(self.folder.used.elapsed_s + done.elapsed_s, 3)
        row = (elapsed_s, state.trials, state.subgraph.name, state.family, best_us, best_us)
        try:
            self.database.sync()
            self.failures.sync()
            self.folder.history.append(row)
            self.folder.book(done.elapsed_s, done.trials)
        except OSError as error:
            raise RunError(
                f"{error.filename or self.options.out}: cannot be written "
                f"({error.strerror or error}); what finished rounds measured is kept: go on with "
                "--resume when there is room"
            ) from None
        self.observer.on_round(round_event(done, [state], best_us, best_us))

    def _summarise(self, end: Ending, stopped_by: str, kept: str | None) -> dict[str, Any]:
        from familyseer.run._summary import versions

        def microseconds(seconds: float | None) -> float | None:
            return None if seconds is None else seconds * 1e6

        task, state, options = self.task, self.state, self.options
        plan = None if end.config is None else task.survey.statistics(block_of(end.config))
        return {
            "model": self.problem.name,
            "digest": self.problem.digest,
            "target": str(self.target),
            "device": self.kind.device,
            "versions": versions(),
            "seed": options.seed,
            "budget_s": options.budget_s,
            "trial_limit": options.trials,
            "elapsed_s": round(self.clock.elapsed_s(), 3),
            "elapsed_before_s": round(self.folder.used.elapsed_s, 3),
            "trials": state.trials,
            "trials_before": self.trials_before,
            "build_errors": state.build_errors,
            "run_errors": state.run_errors,
            "space": len(self.kind.configs),
            "shape": self.problem.shape,
            "dtype": self.problem.dtype,
            "precision": self.problem.precision,
            "block": options.block,
            "wanted_valid_ratio": self.problem.valid_ratio,
            "error_bound": task.survey.error_bound,
            "default_config": dict(task.default),
            "config": None if end.config is None else dict(end.config),
            "valid_ratio": None if plan is None else plan.valid_ratio,
            "untuned_us": microseconds(end.untuned_s),
            "tuned_us": microseconds(end.tuned_s),
            "speedup": end.speedup,
            "speedups": list(end.speedups),
            "kept_in": kept,
            "stopped_by": stopped_by,
            "phases_s": {name: round(spent, 3) for name, spent in self.clock.phases.items()},
        }
