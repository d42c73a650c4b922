"""The order of a tuning run: load, cut, form families, measure untuned, tune, finish, report."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from familyseer.duration import format_duration
from familyseer.errors import RunError, UserError
from familyseer.measure._workers import warm_up
from familyseer.models.specs import LoadedModel
from familyseer.options import TuneOptions
from familyseer.progress import Observer
from familyseer.run._ctrl_c import ending_on_ctrl_c
from familyseer.run._folder import Identity, RunFolder, check_writable, hold
from familyseer.safe_json import save_json
from familyseer.search import Clock


def tune(
    options: TuneOptions,
    *,
    started_at: float | None = None,
    observer: Observer | None = None,
    load: Callable[[], LoadedModel] | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Tunes a model and leaves the library and its records in ``options.out``.

    Parameters
    ----------
    started_at
        `time.monotonic()` from which the budget counts; by default now.
    observer
        Told of the run as `familyseer.progress` says.
    load
        Gives the model, of which ``options.model`` is then the name alone; by default it is loaded
        from there.
    clock
        The run's clock, for who may end the run by its `stop`; by default one of
        ``options.budget_s`` from `started_at`.

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    UserError
        The model, the target or the folder cannot be used.
    RunError
        The folder could not be written any more; what finished rounds measured is in it.
    """
    if options.budget_s is None and options.trials is None:
        raise UserError("neither a budget nor a number of trials is set: expected at least one")
    clock = Clock(options.budget_s, started_at) if clock is None else clock
    check_writable(options.out)
    warm_up()
    with hold(options.out), ending_on_ctrl_c(clock), ExitStack() as stack:
        return _Run(options, clock, observer or Observer(), stack, load).tune()


class _Run:
    def __init__(
        self,
        options: TuneOptions,
        clock: Clock,
        observer: Observer,
        stack: ExitStack,
        load: Callable[[], LoadedModel] | None,
    ) -> None:
        self.options = options
        self.load = load
        self.clock = clock
        self.observer = observer
        self.stack = stack
        self.covered_at_s: float | None = None
        self.phase = ""
        self.spamm: Any = None

    def tune(self) -> dict[str, Any]:
        self._enter("loading")
        with self.clock.phase("loading"):
            self._load()
        self._enter("untuned")
        with self.clock.phase("untuned"):
            self._measure_untuned()
        if self.options.spamm:
            self._use_spamm()
        self._announce()
        stopped_by = self._search()
        try:
            end = self._finish()
            summary = self._summarise(end, stopped_by)
        except Exception:
            if self.journal.failed is not None:
                raise self._cannot_write() from self.journal.failed
            raise
        if self.journal.failed is None:
            self._report()
        self.observer.on_end(summary)
        if self.journal.failed is not None:
            raise self._cannot_write() from self.journal.failed
        return summary

    def _report(self) -> None:
        from familyseer.report import report_run

        # of other machines' devices nothing is measured here
        device = self.device if self.options.tracker is None else ""
        report_run(self.options.out, device, self.clock.left_s())

    def _cannot_write(self) -> RunError:
        error = self.journal.failed
        what = getattr(error, "filename", None) or self.options.out
        reason = getattr(error, "strerror", None) or str(error)
        return RunError(
            f"{what}: cannot be written ({reason}); tuning was ended and what its finished rounds "
            "measured is kept: go on with --resume when there is room"
        )

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase = phase
            self.observer.on_phase(phase)

    def _load(self) -> None:
        from familyseer.models import load_asked
        from familyseer.target import resolve_target

        options = self.options
        self.target = resolve_target(options.target)
        # before the folder is this run's, so that a refusal leaves it as it was
        self.warm_start = self._read_earlier_runs()
        self.model = load_asked(options) if self.load is None else self.load()
        identity = Identity(self.model.name, self.model.digest, str(self.target))
        self.folder = RunFolder(options.out, identity, resume=options.resume)
        self._deduct(self.folder.used.unfinished_s)
        self._cut(self.model.mod)

    def _cut(self, mod: Any) -> None:
        from familyseer.families import families_json, form_families
        from familyseer.subgraphs import extract_subgraphs, fuse

        options = self.options
        self.fused = fuse(mod, self.target)
        self.subgraphs = extract_subgraphs(self.fused, self.target)
        self.families = form_families(self.subgraphs, options.families)
        save_json(
            options.out / "families.json",
            families_json(self.families, self.subgraphs, options.families),
        )

    def _deduct(self, used_s: float) -> None:
        """Takes what an interrupted run has used off this budget."""
        if self.clock.budget_s is not None and used_s > 0:
            self.clock.budget_s -= used_s
            left = format_duration(max(0.0, self.clock.budget_s))
            self.observer.on_message(
                f"an interrupted run has used {format_duration(used_s)} of this budget: "
                f"{left} are left"
            )

    def _read_earlier_runs(self) -> Any:
        if not self.options.warm_start:
            return None
        from familyseer.run._warm_start import WarmStart

        return WarmStart(
            self.options.warm_start,
            self.options.out,
            self.target,
            any_target=self.options.warm_start_any_target,
        )

    def _measure_untuned(self) -> None:
        from familyseer.check import Checker
        from familyseer.measure import WarmBuilder, WarmRunner
        from familyseer.measure._measure import device_type
        from familyseer.run._precision import check_precision
        from familyseer.run._reference import make_reference
        from familyseer.run._runners import make_runner

        self.device = device_type(self.target)
        self.builder = WarmBuilder(
            workers=self.options.workers, vector_math=not self.options.exact_math
        )
        self.stack.callback(self.builder.close)
        # whole libraries and checks run on this machine, wherever candidates do
        self.local = WarmRunner()
        self.stack.callback(self.local.close)
        self.pool = self.local.pool
        self.runner = make_runner(
            self.options, self.target, self.local, self.clock, self.stack, self.observer
        )
        self.checker = Checker(
            self.target,
            self.device,
            self.pool,
            seed=self.options.seed,
            quarantine=self.options.out / "quarantine",
        )
        self.stack.callback(self.checker.close)
        self.checker.trust(self.folder.read_checked())
        self.reference = make_reference(
            self.model,
            self.fused,
            self.target,
            self.device,
            self.pool,
            self.clock,
            self.options.seed,
        )
        self.stack.callback(self.reference.close)
        if self.reference.seconds is None:
            self.observer.on_message(
                "the untuned library is too slow to be run in this budget: how much faster the "
                "tuned one is stays unknown"
            )
        self.precision = check_precision(
            self.model, self.reference, self.pool, self.clock, self.options.max_rel_error
        )

    def _use_spamm(self) -> None:
        from familyseer.run._spamm import use_spamm

        self._enter("spamm")
        tools = self.target, self.reference, self.pool, self.clock
        with self.clock.phase("spamm"):
            self.spamm = use_spamm(self.options, self.model, *tools, self.precision)
            if self.spamm.mod is not None:
                self._cut(self.spamm.mod)

    def _announce(self) -> None:
        from familyseer.run._telling import run_info

        self.observer.on_start(
            run_info(
                self.model.name,
                self.target,
                self.subgraphs,
                self.families,
                # what an interrupted run has used of it is gone
                budget_s=self.clock.budget_s,
                trials=self.options.trials,
                untuned_s=self.reference.seconds,
            )
        )

    def _search(self) -> str:
        from familyseer.report import AccuracyLog
        from familyseer.run._journal import Journal
        from familyseer.run._restore import open_database
        from familyseer.run._runners import why_gone
        from familyseer.run._session import Earlier, make_rounds
        from familyseer.search import BudgetLoop, Round

        folder, options = self.folder, self.options
        self.database = open_database(folder.tuning)
        self.journal = Journal(options, folder, self.database, self.clock, self.checker)
        self.stack.callback(self.journal.close)
        self.accuracy = AccuracyLog(folder.tuning)
        self._enter("first pass")
        self.rounds = make_rounds(
            options,
            self.subgraphs,
            self.families,
            self.target,
            clock=self.journal.clock,
            database=self.database,
            builder=self.builder,
            runner=self.runner,
            max_trials=self._trials_left(),
            earlier=Earlier(folder.models, folder.history.rows) if folder.resumed else None,
            warm_start=self.warm_start,
            checker=self.checker,
            on_measured=self.journal.on_measured,
            measure=self.journal.measure,
        )
        self.states = self.rounds.states
        self.cost_model = self.rounds.cost_model
        self._keep_back()
        self.trials_at_start = sum(s.trials for s in self.states)

        def on_round(done: Round) -> None:
            self._keep_back()
            self._on_round(done)

        stopped_by = BudgetLoop(self.rounds, on_round=on_round).run()
        self.journal.end(stopped_by)
        if self.journal.failed is not None:
            return "cannot write"
        return why_gone(self.runner, self.options) or stopped_by

    def _keep_back(self) -> None:
        from familyseer.report import REPORT_S
        from familyseer.run._finish import reserve_s

        ending_s = reserve_s(self.states, self.reference, self.checker)
        self.clock.reserve_s = ending_s + REPORT_S

    def _trials_left(self) -> int | None:
        if self.options.trials is None:
            return None
        return max(0, self.options.trials - self.folder.used.unfinished_trials)

    def _on_round(self, done: Any) -> None:
        from familyseer.run._telling import round_event

        state = done.state
        if self.covered_at_s is None and done.covered == done.subgraphs:
            self.covered_at_s = done.elapsed_s
        if done.kind != "first":
            self._enter("tuning")
        best_us = state.best_s * 1e6 if math.isfinite(state.best_s) else None
        estimated_us = None if done.estimated_s is None else done.estimated_s * 1e6
        self.journal.commit(
            done, self.trials_at_start + done.trials, best_us, estimated_us, self.cost_model
        )
        self.accuracy.add(
            self.folder.used.elapsed_s + done.elapsed_s,
            self.trials_at_start + done.trials,
            state.family,
            self.cost_model.accuracy(state.family),
        )
        self.observer.on_round(round_event(done, self.states, best_us, estimated_us))

    def _finish(self) -> Any:
        from familyseer.export._manifest import remove_manifest
        from familyseer.run._finish import Finisher

        with self.clock.phase("finish"):
            finisher = Finisher(
                self.fused,
                self.target,
                self.device,
                self.reference,
                self.pool,
                self.clock,
                on_phase=self._enter,
                checker=self.checker,
                vector_math=not self.options.exact_math,
            )
            remove_manifest(self.options.out)
            end = finisher.finish(self.subgraphs, self.database, self.options.out / "model.so")
            if self.spamm is not None:
                tools = self.reference, self.pool, self.clock
                self.spamm.judge(end, self.options.out / "model.so", *tools)
            self.folder.save_models(self.cost_model)
            self.folder.save_checked(self.checker.found_right())
        return end

    def _summarise(self, end: Any, stopped_by: str) -> dict[str, Any]:
        from familyseer.export._manifest import write_manifest
        from familyseer.run._runners import report_fleet, report_gpus
        from familyseer.run._summary import summarise

        summary = summarise(
            options=self.options,
            model=self.model,
            target=self.target,
            device=self.device,
            states=self.states,
            end=end,
            clock=self.clock,
            stopped_by=stopped_by,
            outputs=self.reference.outputs,
            trials_before=self.trials_at_start,
            elapsed_before_s=self.folder.used.elapsed_s,
            covered_at_s=self.covered_at_s,
            warm_start=self.warm_start.report() if self.warm_start else [],
            fleet=report_fleet(self.runner, self.options),
            gpus=report_gpus(self.runner),
            precision=self.precision,
            spamm=self.spamm.report if self.spamm else None,
        )
        save_json(self.options.out / "summary.json", summary)
        write_manifest(
            self.options.out,
            target=self.target,
            versions=summary["versions"],
            model_digest=self.model.digest,
        )
        ended = self.journal.failed is None and stopped_by != "interrupt"
        self.folder.book(self.clock.elapsed_s(), self.rounds.trials, finished=ended)
        return summary
