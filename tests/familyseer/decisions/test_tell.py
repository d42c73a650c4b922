"""Measurements told again: what a search learnt from them the first time, it learns again."""

from __future__ import annotations

import json
from typing import Any

from familyseer.decisions._log import Told
from familyseer.decisions._tell import RetoldMeasure
from familyseer.measure._cuda_limits import Resources
from familyseer.records._book import plain
from familyseer.tvm_env import load_tvm


def test_a_replay_is_told_what_candidates_take_of_a_gpu(make_dense: Any, cpu: Any) -> None:
    tvm = load_tvm(intrinsics=True)
    mod = make_dense().mod
    schedules = [tvm.s_tir.Schedule(mod) for _ in range(2)]
    context = tvm.s_tir.meta_schedule.TuneContext(mod=mod, target=cpu, task_name="dense")
    used = Resources(255, 64, 4096, 0.125)
    failed, times = ("build", None), (0.5, 0.5)
    for resources, expected in (((used, None), [used, None]), ((), [None, None])):
        told = Told("dense", 2, (0, 1), failed, times, (1.0, 2.0), resources)
        trace = json.loads(json.dumps(plain(schedules[0].trace.as_json())))
        measure = RetoldMeasure(lambda told=told: told, lambda t=trace: (t, [1e-3]), _fail)
        done, _, _ = measure(schedules, context, None, None)
        assert [one.resources for one in done] == expected
        assert [one.build_failed for one in done] == [True, False]


def _fail(text: str) -> None:
    raise AssertionError(text)
