"""Configurations as MetaSchedule's records: written, read back, found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from familyseer.records import RecordBook
from familyseer.spamm_tasks import Problem
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import config_of, config_of_trace, subgraph, workload
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule


def _record(task: SpammTask, database: Any, config: Any, seconds: float, target: Any) -> None:
    schedule = task.schedule(config)
    database.commit_tuning_record(
        ms.database.TuningRecord(
            schedule.trace,
            database.commit_workload(task.subgraph.mod),
            [seconds],
            target,
            ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True),
        )
    )


def test_a_candidate_names_its_configuration(task: SpammTask) -> None:
    config = task.kind.configs[5]
    schedule = task.schedule(config)
    assert config_of(schedule.mod) == config_of_trace(schedule.trace) == config
    assert config_of(task.subgraph.mod) is None


def test_records_are_metaschedules_own(task: SpammTask, cpu: Any, tmp_path: Path) -> None:
    book = RecordBook(tmp_path)
    for seconds, position in ((2.0, 3), (1.0, 7), (3.0, 11)):
        _record(task, book, task.kind.configs[position], seconds, cpu)
    book.close()
    stock = ms.database.JSONDatabase(work_dir=str(tmp_path))
    best = stock.get_top_k(stock.commit_workload(task.subgraph.mod), 1)[0]
    assert config_of_trace(best.trace) == task.kind.configs[7]
    schedule = tvm.s_tir.Schedule(task.subgraph.mod)
    best.trace.apply_to_schedule(schedule, remove_postproc=False)
    assert config_of(schedule.mod) == task.kind.configs[7]


def test_equal_problems_are_one_workload_and_others_are_not(problem: Problem) -> None:
    from dataclasses import replace

    again = Problem(**vars(problem))
    assert subgraph(problem, 1.0).key == subgraph(again, 1.0).key
    for changes in ({"valid_ratio": 0.5}, {"block": (32, 32, 32)}, {"operands": "other"}):
        assert subgraph(replace(problem, **changes), 1.0).key != subgraph(problem, 1.0).key


def test_the_workload_is_the_product(problem: Problem, cpu: Any) -> None:
    import numpy as np

    small = Problem((5, 7, 6), "float16", 1.0, None, "")
    library = tvm.tirx.build(workload(small), target=cpu)
    a, b = (np.arange(size).reshape(shape) % 5 for size, shape in ((35, (5, 7)), (42, (7, 6))))
    out = tvm.runtime.empty((5, 6), "float32")
    library["main"](*(tvm.runtime.tensor(x.astype("float16")) for x in (a, b)), out)
    np.testing.assert_array_equal(out.numpy(), a @ b)
