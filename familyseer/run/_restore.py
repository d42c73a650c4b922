"""Going on from what an earlier run measured."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from familyseer.export._compile import FAILED_S
from familyseer.measure._measure import median_run_s
from familyseer.search import TaskState
from familyseer.search._task import ELITE
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)


def open_database(folder: Path) -> Any:
    """MetaSchedule's JSON database in a folder, new or with what is there."""
    ms = load_tvm().s_tir.meta_schedule
    return ms.database.JSONDatabase(work_dir=str(folder))


def restore(states: list[TaskState], database: Any, cost_model: Any, models: Path) -> None:
    """Puts earlier records back into the states, and the learnt models into the cost model.

    Cost models that cannot be read are left out with a warning: they can be learnt again.
    """
    tvm = load_tvm(intrinsics=True)
    for state in states:
        mod = state.subgraph.mod
        if not database.has_workload(mod):
            continue
        workload = database.commit_workload(mod)
        for record in database.get_top_k(workload, ELITE):
            run_s = median_run_s(record.run_secs)
            if run_s >= FAILED_S:
                continue
            schedule = tvm.s_tir.Schedule(mod)
            record.trace.apply_to_schedule(schedule, remove_postproc=False)
            state.best_s = min(state.best_s, run_s)
            state.remember(run_s, schedule)
    counts: dict[str, int] = {}
    keys: dict[Any, str] = {}
    for record in database.get_all_tuning_records():
        workload = record.workload
        # by the object, whose hash is that of TVM's handle: its Python wrapper is new every time
        if workload not in keys:
            keys[workload] = subgraph_key(workload.mod)
        counts[keys[workload]] = counts.get(keys[workload], 0) + 1
    for state in states:
        state.trials = counts.get(state.subgraph.key, 0)
        state.rounds = 1 if state.covered else 0
    if models.is_dir():
        try:
            cost_model.load(str(models))
        except ValueError as error:
            log.warning("the cost models of the earlier run are not used: %s", error)
