"""A search for a GPU: real candidates, really compiled, and times that are made up."""

from __future__ import annotations

import os
from typing import Any

import pytest

from costmodels import FamilyCostModel
from familyseer.measure import GpuRunner, WarmBuilder
from familyseer.measure import _gpu_runner as gpu_runner
from familyseer.measure._gpus import Gpu
from familyseer.search import BudgetLoop, Clock, Rounds, TaskState
from familyseer.search._proposals import new_context
from familyseer.tvm_env import load_tvm
from tests.familyseer.measure import jobs
from tests.familyseer.measure.cuda_modules import cuda_target

pytest.importorskip("cuda.bindings.nvrtc", reason="the wheels of the nvrtc extra are not installed")

TRIALS = 6


def test_a_cuda_search_compiles_and_measures_on_two_gpus(
    make_dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_runner, "run_candidate", jobs.size_as_time)
    target = cuda_target()
    subgraphs = [make_dense(128, 128, 128, index=0), make_dense(64, 64, 64, index=1)]
    states = [TaskState(subgraph, "matmul") for subgraph in subgraphs]
    database = load_tvm().s_tir.meta_schedule.database.MemoryDatabase()
    builder = WarmBuilder(workers=2, timeout_s=120)
    gpus = [Gpu(name, "NVIDIA H200", "sm_90", 132) for name in ("0", "1")]
    runner = GpuRunner(gpus, arch="sm_90", timeout_s=60)
    model = FamilyCostModel({s.key: "matmul" for s in subgraphs})
    try:
        rounds = Rounds(
            states,
            [new_context(subgraph, target, seed=0, threads=2) for subgraph in subgraphs],
            builder=builder,
            runner=runner,
            database=database,
            cost_model=model,
            clock=Clock(300.0),
            max_trials=TRIALS,
        )
        assert BudgetLoop(rounds).run() == "trials"
        assert sum(state.trials for state in states) == len(database) == TRIALS
        assert all(state.covered for state in states)
        assert sum(state.run_errors for state in states) == 0
        built = TRIALS - sum(state.build_errors for state in states)
        # some are timed again in turns
        assert sum(one["timed"] for one in runner.gpus()) >= built
        assert os.listdir(builder.folder) == []
        # of one whose build takes too long nothing is known
        assert 0 < built <= len(model._inst.learner.resources.rows) <= TRIALS
    finally:
        builder.close()
        runner.close()
