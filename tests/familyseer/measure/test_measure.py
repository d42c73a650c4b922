"""Candidates built and run for real, the bad ones too."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._measure import measure
from familyseer.measure._timing import RunPlan
from familyseer.tvm_env import load_tvm


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[Any, Any]]:
    builder, runner = WarmBuilder(workers=2, timeout_s=20), WarmRunner(timeout_s=3)
    yield builder, runner
    builder.close()
    runner.close()


@pytest.fixture
def context(cpu: Any, make_dense: Any) -> Any:
    from familyseer.search._proposals import new_context

    return new_context(make_dense(), cpu, seed=0, threads=2)


def args_of(mod: Any) -> Any:
    ms = load_tvm().s_tir.meta_schedule
    return ms.arg_info.ArgInfo.from_entry_func(mod, True)


def endless(mod: Any) -> Any:
    """The same signature with a body that never ends."""
    tvm = load_tvm(intrinsics=True)
    script = tvm.script.from_source(
        """
# from tvm.script import ir as I
# from tvm.script import tirx as T
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def main(A: T.Buffer((64, 64), "float32"), B: T.Buffer((64, 64), "float32"),
             C: T.Buffer((64, 64), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(64):
            with T.sblock("stuck"):
                vi = T.axis.spatial(64, i)
                C[vi, 0] = T.float32(0)
                while C[vi, 0] < T.float32(1):
                    C[vi, 0] = A[vi, 0] * T.float32(0)
"""
    )
    return tvm.s_tir.Schedule(script)


def test_candidates_are_timed_and_their_files_cleared_away(
    workers: tuple[Any, Any], context: Any
) -> None:
    import os

    schedules = list(context.generate_design_space())[:1]
    done, build_s, run_s = measure(schedules, context, *workers)
    assert len(done) == 1
    assert 1e-7 < done[0].run_s < 1
    assert done[0].build_s > 0
    assert build_s > 0
    assert run_s > 0
    assert os.listdir(workers[0].folder) == []


def test_a_hanging_candidate_fails_and_the_next_one_runs(
    workers: tuple[Any, Any], context: Any
) -> None:
    plain = load_tvm().s_tir.Schedule(context.mod)
    began = time.monotonic()
    done, _, _ = measure([endless(context.mod), plain], context, *workers)
    assert time.monotonic() - began < 15
    assert done[0].run_failed
    assert "time limit" in str(done[0].runner_result.error_msg)
    assert math.isfinite(done[1].run_s)


def test_a_candidate_that_cannot_be_built_says_so(workers: tuple[Any, Any], cpu: Any) -> None:
    tvm = load_tvm(intrinsics=True)
    ms = tvm.s_tir.meta_schedule
    # a call to an intrinsic that the target does not have gets as far as code generation
    te = tvm.te
    a = te.placeholder((8,), name="A")
    b = te.compute((8,), lambda i: tvm.tirx.call_intrin("float32", "tirx.ptx_mma", a[i]), name="B")
    mod = tvm.IRModule({"main": te.create_prim_func([a, b]).with_attr("global_symbol", "main")})
    results = workers[0].build([ms.builder.BuilderInput(mod, cpu)])
    assert results[0].artifact_path is None
    assert str(results[0].error_msg).startswith("build failed: ")


def test_the_deadline_cuts_a_round_short_and_leaves_the_rest_out(
    workers: tuple[Any, Any], context: Any
) -> None:
    until = time.monotonic() + 1.0
    done, _, _ = measure(
        [endless(context.mod)],
        context,
        *workers,
        time_left=lambda: until - time.monotonic(),
    )
    assert done == []
    assert time.monotonic() < until + 3


def test_a_candidate_far_from_the_best_is_not_measured_in_full(
    workers: tuple[Any, Any], context: Any
) -> None:
    plain = load_tvm().s_tir.Schedule(context.mod)
    in_full, _, _ = measure([plain], context, *workers)
    assert len(in_full[0].runner_result.run_secs) == RunPlan().repeats
    briefly, _, _ = measure([plain], context, *workers, cutoff_s=in_full[0].run_s / 10)
    assert len(briefly[0].runner_result.run_secs) == 1


def test_stock_builder_inputs_and_runner_futures_work(
    workers: tuple[Any, Any], context: Any, cpu: Any
) -> None:
    ms = load_tvm().s_tir.meta_schedule
    built = workers[0].build([ms.builder.BuilderInput(context.mod, cpu)])
    futures = workers[1].run(
        [ms.runner.RunnerInput(built[0].artifact_path, "cpu", args_of(context.mod))]
    )
    assert all(float(s) > 0 for s in futures[0].result().run_secs)
