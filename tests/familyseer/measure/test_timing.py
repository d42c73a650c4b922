"""Candidates are timed as the model finds its data: not in the caches."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from familyseer.measure import WarmRunner
from familyseer.measure._timing import (
    FLUSH_BYTES,
    MOST_COLD_RUNS,
    MOST_SETS,
    RunPlan,
    cold_options,
    expect_model,
    rotation,
    time_kernel,
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


@dataclass
class Device:
    """A device as TVM describes one; `sync` is noted."""

    kind: int
    l2_cache_size_bytes: int | None = 50 << 20

    def dlpack_device_type(self) -> int:
        return self.kind

    def sync(self) -> None:
        pass


REMOTE = 128
CPU, CUDA = 1, 2
WRITTEN_BACK = {"f_preproc": "cache_flush_cpu_non_first_arg"}


@pytest.mark.parametrize(
    ("device", "touched", "options"),
    [
        (Device(CPU), 1 << 40, {}),
        (Device(REMOTE + CPU), FLUSH_BYTES, WRITTEN_BACK),
        (Device(2 * REMOTE + CPU), FLUSH_BYTES - 1, {}),
        (Device(REMOTE + CUDA), 51 << 20, {"cache_flush_bytes": 50 << 20}),
        (Device(REMOTE + CUDA), 50 << 20, {}),
        (Device(REMOTE + CUDA, None), 1 << 30, {"cache_flush_bytes": 64 << 20}),
        (Device(CUDA), 1 << 30, {"cache_flush_bytes": 50 << 20}),
    ],
)
def test_caches_are_emptied_where_the_model_would_and_tvm_can(
    device: Device, touched: int, options: dict[str, Any]
) -> None:
    assert cold_options(device, RunPlan(working_set_bytes=touched)) == options


class Library:
    """A loaded library whose kernel takes a microsecond; notes how it is timed."""

    def __init__(self) -> None:
        self.timed: list[dict[str, Any]] = []

    def __getitem__(self, _name: str) -> Any:
        return lambda *args: None

    def time_evaluator(self, _name: str, _device: Any, **options: Any) -> Any:
        self.timed.append(options)
        return lambda *args: SimpleNamespace(results=[1e-6] * options["repeat"])


def test_on_a_gpu_with_cold_caches_every_run_is_timed_by_itself() -> None:
    lib, flush = Library(), {"cache_flush_bytes": 50 << 20}
    seconds = time_kernel(lib, Device(REMOTE + CUDA), [], RunPlan(repeats=3), flush)
    assert seconds == pytest.approx([1e-6] * 3)
    assert [one["number"] for one in lib.timed] == [1, 1]
    assert [one["repeat"] for one in lib.timed] == [2, 3 * MOST_COLD_RUNS]
    assert all(one["cache_flush_bytes"] == 50 << 20 for one in lib.timed)


def test_tvms_evaluator_takes_the_size_of_a_cache_to_write_over(
    make_dense: Any, cpu: Any, tmp_path: Any
) -> None:
    from familyseer.measure._jobs import build_candidate

    path = build_candidate(make_dense().mod, cpu, str(tmp_path)).path
    lib, args = load_tvm().runtime.load_module(path), tensors(*[(64, 64)] * 3)
    flush = {"cache_flush_bytes": 1 << 20}
    seconds = time_kernel(lib, load_tvm().cpu(), args, RunPlan(repeats=2, repeat_ms=0.5), flush)
    assert len(seconds) == 2
    assert all(1e-7 < s < 1 for s in seconds)


def test_a_candidate_is_timed_in_full_when_data_rotates(
    make_dense: Any, cpu: Any, tmp_path: Any
) -> None:
    from familyseer.measure._jobs import build_candidate, run_candidate

    path = build_candidate(make_dense().mod, cpu, str(tmp_path)).path
    args = tuple(("TENSOR", "float32", (64, 64)) for _ in range(3))
    seconds = run_candidate(path, "cpu", args, RunPlan(working_set_bytes=1 << 20))
    assert len(seconds) == RunPlan().repeats
    assert all(1e-7 < s < 1 for s in seconds)
