"""Wrong kernels are caught, right ones are not called wrong, and what is not known is said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from familyseer.check import Checker
from familyseer.measure import WorkerPool
from familyseer.search._proposals import new_context
from familyseer.tvm_env import load_tvm
from tests.familyseer.check import planted


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as made:
        yield made


@pytest.fixture(scope="module")
def checker(cpu: Any, pool: WorkerPool) -> Iterator[Checker]:
    with Checker(cpu, "cpu", pool) as made:
        yield made


def sampled(subgraph: Any, target: Any, seed: int) -> Any:
    """A schedule drawn from MetaSchedule's space."""
    tvm = load_tvm(intrinsics=True)
    context = new_context(subgraph, target, seed, 1)
    spaces = context.generate_design_space()
    steps = list(context.space_generator.postprocs)
    for attempt in range(20):
        schedule = tvm.s_tir.Schedule(subgraph.mod, seed=seed * 100 + attempt + 1)
        trace = tvm.s_tir.schedule.Trace(spaces[attempt % len(spaces)].trace.insts, {})
        trace.apply_to_schedule(schedule, remove_postproc=True)
        if all(step.apply(schedule) for step in steps):
            return schedule
    raise AssertionError("nothing valid was drawn")


@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        ("float32", 64),
        ("float32", 4096),
        ("float64", 64),
        ("float16", 64),
        ("bfloat16", 8),
        ("int8", 64),
    ],
)
def test_a_sum_without_its_last_term_is_wrong(checker: Checker, dtype: str, length: int) -> None:
    whole = planted.matmul(4, 32, length, dtype=dtype)
    subgraph = planted.subgraph_of(whole)
    assert checker.check(subgraph, planted.schedule_of(whole)).right
    wrong = planted.matmul(4, 32, length, dtype=dtype, summed=length - 1)
    verdict = checker.check(subgraph, planted.schedule_of(wrong))
    assert verdict.wrong
    assert verdict.kind_of_input == "normal"


def test_one_wrong_row_at_the_border_is_wrong(checker: Checker) -> None:
    subgraph = planted.subgraph_of(planted.convolution())
    assert checker.check(subgraph, planted.schedule_of(planted.convolution())).right
    assert checker.check(subgraph, planted.schedule_of(planted.convolution(rows_padded=0))).wrong


@pytest.mark.parametrize("dtypes", [("float16",), ("float16", "int8")])
def test_sums_kept_in_a_smaller_type_are_wrong(checker: Checker, dtypes: tuple[str, ...]) -> None:
    subgraph = planted.subgraph_of(planted.matmul(16, 16, 64))
    assert checker.check(subgraph, planted.keeps_sums_in(subgraph.mod, *dtypes)).wrong


def test_sums_on_top_of_memory_that_nobody_cleared_are_wrong(checker: Checker) -> None:
    subgraph = planted.subgraph_of(planted.matmul(16, 16, 32))
    wrong = planted.without_initialisation(subgraph.mod)
    assert checker.check(subgraph, planted.schedule_of(wrong)).wrong


def test_a_kernel_that_kills_its_process_is_wrong(checker: Checker) -> None:
    tvm = load_tvm(intrinsics=True)
    subgraph = planted.subgraph_of(planted.matmul(8, 8, 8))
    function = subgraph.mod["main"]
    abort = tvm.tirx.Evaluate(tvm.tirx.call_extern("int32", "abort"))
    body = tvm.tirx.SeqStmt([abort, function.body])
    wrong = planted.schedule_of(tvm.IRModule({"main": function.with_body(body)}))
    verdict = checker.check(subgraph, wrong)
    assert verdict.wrong
    assert "failed where the subgraph did not" in verdict.reason


def softmax() -> Any:
    tvm = load_tvm(intrinsics=True)
    x = tvm.te.placeholder((64, 48), name="X")
    return planted.module([x, tvm.topi.nn.softmax(x)])


def layer_norm() -> Any:
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    x, g, b = te.placeholder((32, 96)), te.placeholder((96,)), te.placeholder((96,))
    return planted.module([x, g, b, tvm.topi.nn.layer_norm(x, g, b, axis=[1], epsilon=1e-5)])


def root_of_the_sum() -> Any:
    """Not a number for half of all random inputs."""
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    x, w = te.placeholder((32, 32)), te.placeholder((32,))
    return planted.module([x, w, te.compute((32, 32), lambda i, j: te.sqrt(x[i, j] * w[j]))])


def pooled_maximum() -> Any:
    tvm = load_tvm(intrinsics=True)
    x = tvm.te.placeholder((1, 8, 28, 28), name="X")
    return planted.module([x, tvm.topi.nn.pool2d(x, [3, 3], [2, 2], [1, 1], [0, 0, 0, 0], "max")])


def whole_sum() -> Any:
    """A result without axes."""
    te = load_tvm(intrinsics=True).te
    x, r = te.placeholder((640,), name="X"), te.reduce_axis((0, 640), name="r")
    return planted.module([x, te.compute((), lambda: te.sum(x[r], axis=r))])


def largest_of_each_row() -> Any:
    """Integers that were found by comparing numbers."""
    tvm = load_tvm(intrinsics=True)
    x = tvm.te.placeholder((16, 33), name="X")
    return planted.module([x, tvm.topi.argmax(x, axis=1)])


def half_precision() -> Any:
    return planted.matmul(16, 32, 512, dtype="float16")


@pytest.mark.parametrize(
    "make",
    [
        planted.convolution,
        softmax,
        layer_norm,
        root_of_the_sum,
        pooled_maximum,
        whole_sum,
        largest_of_each_row,
        half_precision,
    ],
)
def test_right_schedules_are_right(checker: Checker, cpu: Any, make: Callable[[], Any]) -> None:
    subgraph = planted.subgraph_of(make())
    for seed in range(3):
        verdict = checker.check(subgraph, sampled(subgraph, cpu, seed))
        assert verdict.right, verdict


def test_a_built_kernel_with_its_weights_in_another_layout_is_checked_all_the_same(
    checker: Checker, cpu: Any, pool: WorkerPool, tmp_path: Path
) -> None:
    from familyseer.check._checker import _takes_own_weights
    from familyseer.measure._jobs import build_candidate

    mod = planted.matmul(32, 64, 128)
    mod = load_tvm().IRModule({"main": mod["main"].with_attr("layout_free_buffers", [1])})
    subgraph = planted.subgraph_of(mod)
    for seed in range(8):
        schedule = sampled(subgraph, cpu, seed)
        if not _takes_own_weights(schedule.mod):
            break
    else:
        pytest.fail("no schedule changed the layout of its weights")
    path = pool.submit(build_candidate, schedule.mod, cpu, str(tmp_path)).result().path
    assert checker.check(subgraph, schedule, path).right


def test_a_built_kernel_is_run_as_it_is(
    checker: Checker, cpu: Any, pool: WorkerPool, tmp_path: Path
) -> None:
    from familyseer.measure._jobs import build_candidate

    subgraph = planted.subgraph_of(planted.matmul(24, 24, 24))
    wrong = planted.matmul(24, 24, 24, summed=12)
    path = pool.submit(build_candidate, wrong, cpu, str(tmp_path)).result().path
    assert checker.check(subgraph, planted.schedule_of(subgraph.mod), path).wrong


def test_without_time_nothing_is_called_right(checker: Checker) -> None:
    subgraph = planted.subgraph_of(planted.matmul(12, 12, 12))
    schedule = planted.schedule_of(subgraph.mod)
    verdict = checker.check(subgraph, schedule, time_left=lambda: 0.0)
    assert verdict.outcome == "unchecked"
    assert not checker.settled(subgraph)
    assert checker.check(subgraph, schedule).right
    assert checker.settled(subgraph)


def test_a_subgraph_that_gives_no_numbers_is_unchecked(checker: Checker) -> None:
    te = load_tvm(intrinsics=True).te
    x = te.placeholder((16,), name="X")
    mod = planted.module([x, te.compute((16,), lambda i: te.log(-x[i] * x[i] - 1.0))])
    verdict = checker.check(planted.subgraph_of(mod), planted.schedule_of(mod))
    assert verdict.outcome == "unchecked"
    assert "no reference" in verdict.reason


def test_in_passing_only_a_share_of_the_time_is_taken(cpu: Any, pool: WorkerPool) -> None:
    now = [0.0]
    with Checker(cpu, "cpu", pool, now=lambda: now[0]) as checker:
        subgraph = planted.subgraph_of(planted.matmul(20, 20, 20))
        schedule = planted.schedule_of(subgraph.mod)
        checker.spent_s = 5.0
        assert checker.check_in_passing(subgraph, schedule).outcome == "unchecked"
        now[0] = 1000.0
        assert checker.check_in_passing(subgraph, schedule).right
        assert checker.expected_s([subgraph]) == 0.0
        checker.spent_s = 1000.0
        other = planted.keeps_sums_in(subgraph.mod, "float16")
        assert checker.check_in_passing(subgraph, other).outcome == "unchecked"
        assert not checker.settled(subgraph)


def test_a_schedule_is_run_once(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    subgraph = planted.subgraph_of(planted.matmul(16, 16, 64))
    first = checker.check(subgraph, planted.keeps_sums_in(subgraph.mod, "float16"))
    monkeypatch.setattr(checker.pool, "submit", lambda *_a, **_k: pytest.fail("run again"))
    assert checker.check(subgraph, planted.keeps_sums_in(subgraph.mod, "float16")) is first


def test_what_an_earlier_run_found_right_is_not_run_again_and_what_was_wrong_is(
    cpu: Any, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    subgraph = planted.subgraph_of(planted.matmul(16, 16, 64))
    right, wrong = sampled(subgraph, cpu, 1), planted.keeps_sums_in(subgraph.mod, "float16")
    with Checker(cpu, "cpu", pool) as earlier:
        assert earlier.check(subgraph, right).right
        assert earlier.check(subgraph, wrong).wrong
        known = earlier.found_right()
    with Checker(cpu, "cpu", pool) as resumed:
        resumed.trust(known)
        assert resumed.check(subgraph, wrong).wrong
        monkeypatch.setattr(pool, "submit", lambda *_a, **_k: pytest.fail("run again"))
        assert resumed.check(subgraph, right).right


def test_a_trace_of_another_subgraph_is_wrong(checker: Checker) -> None:
    trace = planted.keeps_sums_in(planted.matmul(16, 16, 64), "float16").trace
    verdict = checker.check(planted.subgraph_of(softmax()), trace)
    assert verdict.wrong
    assert verdict.error == math.inf
    assert "cannot be applied" in verdict.reason
