"""Plain schedules of what nobody tuned: the same numbers, and modules left as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.export import _jobs
from familyseer.export._compile import build_library, schedule_the_rest
from familyseer.export._plain import plain_schedules
from familyseer.models import example_inputs, load_model
from familyseer.subgraphs import fuse
from familyseer.tvm_env import load_tvm


def scheduled(mod: Any) -> list[Any]:
    """The TIR functions that carry a schedule."""
    prim_func = load_tvm().tirx.PrimFunc
    found = [f for _, f in mod.functions_items() if isinstance(f, prim_func)]
    return [f for f in found if "tirx.is_scheduled" in f.attrs]


def alone(compute: Any) -> Any:
    """The function of some TE tensors, as a module."""
    tvm = load_tvm()
    return tvm.IRModule({"main": tvm.te.create_prim_func(compute)})


def product(m: int, n: int, k: int) -> Any:
    te = load_tvm().te
    a, b = te.placeholder((m, k), name="a"), te.placeholder((k, n), name="b")
    at = te.reduce_axis((0, k), name="at")
    return alone([a, b, te.compute((m, n), lambda i, j: te.sum(a[i, at] * b[at, j], at), name="c")])


def loops_of(mod: Any, block: str) -> list[Any]:
    schedule = load_tvm().s_tir.Schedule(mod)
    return [schedule.get(loop) for loop in schedule.get_loops(schedule.get_sblock(block))]


def run(mod: Any, target: Any, *arrays: Any) -> Any:
    tvm = load_tvm()
    built = tvm.driver.build(mod, target=target)
    tensors = [tvm.runtime.tensor(one) for one in arrays]
    built["main"](*tensors)
    return tensors[-1].numpy()


@pytest.mark.parametrize("name", ["mlp", "squeezenet", "bert_small"])
def test_a_network_of_plain_schedules_gives_what_the_untuned_one_gives(
    name: str, cpu: Any, tmp_path: Path
) -> None:
    model = load_model(name)
    fused = fuse(model.mod, cpu)
    inputs = list(example_inputs(model.inputs, seed=0).values())
    outputs = []
    for plainly in (False, True):
        path = tmp_path / f"{plainly}.so"
        build_library(fused, cpu, path, plainly=plainly)
        outputs.append(_jobs.run_library(str(path), "cpu", inputs))
    for untuned, plain in zip(*outputs, strict=True):
        np.testing.assert_allclose(plain, untuned, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64, 64), (1, 1000, 70), (3, 130, 128), (200, 7, 33)])
def test_products_of_any_shape_are_right(shape: tuple[int, int, int], cpu: Any) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n)))
    mod = product(*shape)
    out = np.full((m, n), np.nan, np.float32)
    plain = run(plain_schedules(mod, cpu), cpu, a, b, out)
    np.testing.assert_allclose(plain, run(mod, cpu, a, b, out), rtol=1e-5, atol=1e-5)


def test_a_product_reads_in_sequence_and_runs_on_all_cores(cpu: Any) -> None:
    kinds = load_tvm().tirx.ForKind
    loops = loops_of(plain_schedules(product(64, 96, 128), cpu), "c_update")
    assert [int(loop.extent) for loop in loops] == [64, 128, 96]
    assert loops[0].kind == kinds.PARALLEL
    # with a single row there are only its elements to divide
    loops = loops_of(plain_schedules(product(1, 1024, 128), cpu), "c_update")
    assert [int(loop.extent) for loop in loops] == [16, 128, 64]
    assert loops[0].kind == kinds.PARALLEL


def test_starting_threads_for_a_small_product_is_not_worth_it(cpu: Any) -> None:
    loops = loops_of(plain_schedules(product(4, 8, 8), cpu), "c_update")
    assert {loop.kind for loop in loops} == {load_tvm().tirx.ForKind.SERIAL}


def test_sums_along_memory_keep_their_order(cpu: Any) -> None:
    te = load_tvm().te
    a = te.placeholder((256, 128), name="a")
    at = te.reduce_axis((0, 128), name="at")
    mod = alone([a, te.compute((256,), lambda i: te.sum(a[i, at], at), name="c")])
    loops = loops_of(plain_schedules(mod, cpu), "c")
    assert [int(loop.extent) for loop in loops] == [256, 128]


def test_extents_known_at_run_time_alone_are_left_as_they_are(cpu: Any) -> None:
    tvm = load_tvm()
    n = tvm.te.var("n", "int64")
    a = tvm.te.placeholder((n, 64), name="a")
    mod = alone([a, tvm.te.compute((n, 64), lambda i, j: a[i, j] * 2.0, name="c")])
    array = np.ones((3, 64), np.float32)
    out = run(plain_schedules(mod, cpu), cpu, array, np.zeros_like(array))
    np.testing.assert_array_equal(out, 2 * array)


@pytest.mark.parametrize("kind", ["llvm", "nvidia/nvidia-a100"])
def test_the_module_that_is_compiled_is_left_unscheduled(kind: str) -> None:
    # what is scheduled by default once would never be given its tuned schedule
    target = load_tvm().target.Target(kind)
    fused = fuse(load_model("mlp").mod, target)
    assert scheduled(schedule_the_rest(fused, target, plainly=True))
    assert not scheduled(fused)
