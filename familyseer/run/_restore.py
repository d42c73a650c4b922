"""Going on from what an earlier run measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from familyseer.measure._measure import median_run_s
from familyseer.records import RecordBook
from familyseer.records._files import FAILED_S
from familyseer.search import TaskState
from familyseer.search._task import ELITE
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)

# of a subgraph, records that a cost model is told of which it has not seen, and of all subgraphs,
# schedules that are made again for one purpose: each takes milliseconds, and a killed run must not
# spend its remaining time on that
_MOST_RELEARNT = 64
_MOST_MADE_AGAIN = 2000
_LEAST_EACH = 4


def open_database(folder: Path) -> RecordBook:
    """The records of a run in a folder, new or with what is there.

    Raises
    ------
    RecordsError
        They cannot be read or put in order.
    """
    return RecordBook(folder)


def restore(
    states: Sequence[TaskState],
    database: RecordBook,
    cost_model: Any,
    models: Path,
    contexts: Sequence[Any] | None = None,
) -> None:
    """Puts earlier records back into the states, and the learnt models into the cost model.

    Cost models that cannot be read are left out with a warning: they can be learnt again.

    Parameters
    ----------
    states
        Of this run's subgraphs; each gets its best candidates, and its number of trials.
    cost_model
        A `costmodels.FamilyCostModel`.
    models
        Folder that the cost model was saved to, if it ever was.
    contexts
        The subgraphs' tuning contexts, in the order of the states. With them, the cost model also
        learns from the latest records that its saved state has not seen.
    """
    if models.is_dir():
        try:
            cost_model.load(str(models))
        except ValueError as error:
            log.warning("the cost models of the earlier run are not used: %s", error)
    each = max(_LEAST_EACH, _MOST_MADE_AGAIN // max(1, len(states)))
    for number, state in enumerate(states):
        mod = state.subgraph.mod
        if not database.has_workload(mod):
            continue
        workload = database.commit_workload(mod)
        _restore_state(state, database, workload, min(each, ELITE))
        if contexts is not None:
            most = min(each, _MOST_RELEARNT)
            _relearn(state, database, workload, cost_model, contexts[number], most)


def _restore_state(state: TaskState, database: RecordBook, workload: Any, most: int) -> None:
    tvm = load_tvm(intrinsics=True)
    for record in database.get_top_k(workload, most):
        run_s = median_run_s(record.run_secs)
        if run_s >= FAILED_S:
            continue
        schedule = tvm.s_tir.Schedule(state.subgraph.mod)
        record.trace.apply_to_schedule(schedule, remove_postproc=False)
        state.best_s = min(state.best_s, run_s)
        state.remember(run_s, schedule)
    state.trials = database.trials(workload)
    state.rounds = 1 if state.covered else 0


def _relearn(
    state: TaskState,
    database: RecordBook,
    workload: Any,
    cost_model: Any,
    context: Any,
    most: int,
) -> None:
    """Tells the cost model of records that came after it was saved, a crash between."""
    known = [
        float(seconds)
        for family in cost_model.learner.families.values()
        for seconds in family.samples.of(state.subgraph.key)[2]
    ]
    unseen = database.trials(workload) - len(known)
    if unseen <= 0:
        return
    ms = load_tvm().s_tir.meta_schedule
    # a candidate without features is no sample, so the numbers alone do not tell which are new
    seen = set(known)
    candidates, results = [], []
    for record in database.latest(workload, min(unseen, most)):
        seconds = [float(s) for s in record.run_secs or []]
        failed = not seconds or median_run_s(seconds) >= FAILED_S
        if not failed and median_run_s(seconds) in seen:
            continue
        candidates.append(record.as_measure_candidate())
        results.append(
            ms.runner.RunnerResult(None, "failed")
            if failed
            else ms.runner.RunnerResult(seconds, None)
        )
    if candidates:
        cost_model.update(context, candidates, results)
