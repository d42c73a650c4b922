"""How long and on what a GPU is timed, with a clock that is told instead of a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from familyseer.measure._gpu_timing import WARM_RUNS, time_on_gpu
from familyseer.measure._timing import MOST_COLD_RUNS, RunPlan

L2 = 50 << 20


class ToldStream:
    """A GPU on which a kernel takes as long as it is told, three times that with a cold cache."""

    l2_bytes = L2

    def __init__(self, kernel_s: float, *, faults_at: int | None = None) -> None:
        self.kernel_s = kernel_s
        self.faults_at = faults_at
        self.now = 0.0
        self.runs = 0
        self.flushes = 0
        self.cold = True
        self.disturbed: set[int] = set()

    def main(self, *_: Any) -> None:
        self.runs += 1
        self.now += self.kernel_s * (3 if self.cold else 1)
        self.now += 1.0 if self.runs in self.disturbed else 0.0
        self.cold = False

    def flush(self) -> None:
        self.flushes += 1
        self.now += 1e-3
        self.cold = True

    def mark(self) -> float:
        return self.now

    def sync(self) -> None:
        if self.faults_at is not None and self.runs >= self.faults_at:
            raise RuntimeError("CUDA: an illegal memory access was encountered")

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


def test_a_model_beyond_the_cache_is_timed_cold() -> None:
    stream = ToldStream(10e-6)
    plan = RunPlan(repeats=3, repeat_ms=6.0, working_set_bytes=L2 + 1)
    assert time_on_gpu(stream.main, [], stream, plan) == pytest.approx([30e-6] * 3)
    # each run but the one that loads the code
    assert stream.flushes == stream.runs - 1


def test_a_model_within_the_cache_is_timed_warm() -> None:
    stream = ToldStream(10e-6)
    seconds = time_on_gpu(stream.main, [], stream, RunPlan(repeats=3, working_set_bytes=L2))
    assert seconds == pytest.approx([10e-6] * 3)
    assert stream.runs > 3 * WARM_RUNS


def test_a_hopeless_candidate_is_run_three_times() -> None:
    stream = ToldStream(10e-6)
    plan = RunPlan(cutoff_s=20e-6, working_set_bytes=L2 + 1)
    assert time_on_gpu(stream.main, [], stream, plan) == pytest.approx([30e-6])
    assert stream.runs == 3


def test_a_good_candidate_is_not_hopeless_for_its_data_being_fetched_first() -> None:
    stream = ToldStream(10e-6)
    plan = RunPlan(repeats=3, cutoff_s=10e-6, working_set_bytes=L2)
    assert time_on_gpu(stream.main, [], stream, plan) == pytest.approx([10e-6] * 3)


def test_what_interrupts_the_host_is_in_no_time() -> None:
    stream = ToldStream(10e-6)
    stream.disturbed = {20, 90, 160}
    plan = RunPlan(repeats=3, working_set_bytes=L2 + 1)
    assert time_on_gpu(stream.main, [], stream, plan) == pytest.approx([30e-6] * 3)


@pytest.mark.parametrize(("kernel_s", "runs"), [(1e-7, MOST_COLD_RUNS), (1.0, 1)])
def test_short_kernels_are_run_often_and_long_ones_once(kernel_s: float, runs: int) -> None:
    stream = ToldStream(kernel_s)
    time_on_gpu(stream.main, [], stream, RunPlan(repeats=2, working_set_bytes=L2 + 1))
    assert stream.runs == 3 + 2 * runs


def test_a_fault_is_found_where_it_happens() -> None:
    stream = ToldStream(10e-6, faults_at=1)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        time_on_gpu(stream.main, [], stream, RunPlan())
    assert stream.runs == 1
