"""Candidates are timed as the model finds its data: not in the caches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from familyseer.measure import WarmRunner
from familyseer.measure._timing import (
    MOST_SETS,
    RunPlan,
    _is_remote_cpu,
    expect_model,
    rotation,
    time_rotating,
    working_set_bytes,
)
from familyseer.tvm_env import load_tvm


def tensors(*shapes: tuple[int, ...], dtype: str = "float32") -> list[Any]:
    tvm = load_tvm()
    rng = np.random.default_rng(3)
    return [tvm.runtime.tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def test_sets_of_arguments_hold_the_same_numbers_in_other_memory() -> None:
    sets = rotation(tensors((64, 64), (64,)), 4 * 64 * 65 * 3)
    assert len(sets) == 3
    for other in sets[1:]:
        for one, copy in zip(sets[0], other, strict=True):
            np.testing.assert_array_equal(one.numpy(), copy.numpy())
    sets[1][0].copyfrom(np.zeros((64, 64), "float32"))
    assert sets[0][0].numpy().any()
    assert sets[2][0].numpy().any()


@pytest.mark.parametrize(
    ("touched", "sets"), [(0, 1), (255, 1), (257, 2), (1 << 40, MOST_SETS)], ids=str
)
def test_sets_are_as_many_as_the_model_touches(touched: int, sets: int) -> None:
    assert len(rotation(tensors((64,)), touched)) == sets


def test_each_run_is_on_the_next_set() -> None:
    seen: list[int] = []
    plan = RunPlan(repeats=2, repeat_ms=0.5)
    seconds = time_rotating(seen.append, [[0], [1], [2]], plan)
    assert len(seconds) == 2
    assert all(s > 0 for s in seconds)
    assert seen == [i % 3 for i in range(len(seen))]
    assert len(seen) > 6


def test_a_hopeless_candidate_is_run_three_times() -> None:
    seen: list[int] = []
    seconds = time_rotating(seen.append, [[0], [1]], RunPlan(cutoff_s=1e-12))
    assert (len(seconds), len(seen)) == (1, 3)


def test_what_a_model_touches_is_the_arguments_of_all_its_runs(make_dense: Any) -> None:
    from dataclasses import replace

    dense = make_dense()
    once = working_set_bytes([dense])
    assert once == dense.weight * 3 * 64 * 64 * 4
    assert working_set_bytes([dense, replace(dense, weight=4)]) == (dense.weight + 4) * once


def test_a_runner_is_told_of_the_model_and_foreign_ones_are_left_alone(make_dense: Any) -> None:
    runner = WarmRunner(plan=RunPlan(repeats=5))
    try:
        expect_model(runner, [make_dense()])
        assert runner.plan == RunPlan(repeats=5, working_set_bytes=3 * 64 * 64 * 4)
    finally:
        runner.close()
    foreign = object()
    expect_model(foreign, [make_dense()])


def test_a_local_cpu_is_no_remote_one() -> None:
    assert not _is_remote_cpu(load_tvm().cpu())


def test_a_candidate_is_timed_in_full_when_data_rotates(
    make_dense: Any, cpu: Any, tmp_path: Any
) -> None:
    from familyseer.measure._jobs import build_candidate, run_candidate

    path, _ = build_candidate(make_dense().mod, cpu, str(tmp_path))
    args = tuple(("TENSOR", "float32", (64, 64)) for _ in range(3))
    seconds = run_candidate(path, "cpu", args, RunPlan(working_set_bytes=1 << 20))
    assert len(seconds) == RunPlan().repeats
    assert all(1e-7 < s < 1 for s in seconds)
