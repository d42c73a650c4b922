"""Tensor-core candidates build on the pinned TVM, without a GPU."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest

from familyseer.measure import WorkerPool
from familyseer.search._apply import apply_decisions
from familyseer.search._evolution import Evolution
from familyseer.search._launch import THREAD_REGISTERS
from familyseer.search._proposals import new_context, roomy, space_for
from familyseer.search._sketch import sketches_of
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm
from ops.cuda_space import capability, design_space
from ops.tensor_cores import STAGES, tensor_core_tiling

PRODUCTS = [
    ("float16", "float32", (64, 96, 128), False),
    ("float16", "float16", (64, 64, 64), True),
    ("bfloat16", "float32", (128, 64, 64), False),
    ("bfloat16", "float32", (64, 64, 64), True),
    ("int8", "int32", (64, 64, 64), True),
    # extents that no tile divides are padded
    ("float16", "float32", (49, 100, 52), False),
]


def gpu(arch: str) -> Any:
    return load_tvm().target.Target(
        {
            "kind": "cuda",
            "arch": arch,
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "host": {"kind": "llvm"},
        }
    )


def product(
    operand: str, accumulator: str, shape: tuple[int, int, int], transposed: bool
) -> Subgraph:
    tvm = load_tvm(intrinsics=True)
    te, (m, n, k) = tvm.te, shape
    a = te.placeholder((m, k), operand, name="A")
    b = te.placeholder((n, k) if transposed else (k, n), operand, name="B")
    r = te.reduce_axis((0, k), name="r")

    def term(i: Any, j: Any) -> Any:
        other = b[j, r] if transposed else b[r, j]
        return te.sum(a[i, r].astype(accumulator) * other.astype(accumulator), axis=r)

    c = te.compute((m, n), term, name="C")
    function = te.create_prim_func([a, b, c]).with_attr("global_symbol", "main")
    mod = tvm.IRModule({"main": function})
    return Subgraph(0, subgraph_key(mod), "product", mod, 1, 2.0 * m * n * k)


def candidates(subgraph: Subgraph, target: Any, count: int) -> list[Any]:
    """Random candidates of each sketch, as the search draws them."""
    context = new_context(subgraph, target, 0, 1)
    drawn = []
    for sketch in sketches_of(context.generate_design_space()):
        evolution = Evolution(
            context, [sketch], lambda s: np.zeros(len(s)), None, np.random.default_rng(4)
        )
        drawn += [one.schedule for one in evolution.draw(count)]
    return drawn


def source(schedule: Any, target: Any) -> str:
    built = load_tvm().driver.build(schedule.mod, target=target)
    return str(built.imports[0].inspect_source())


@pytest.mark.parametrize("kind", PRODUCTS, ids=str)
def test_every_candidate_of_the_space_is_lowered(kind: Any) -> None:
    target = gpu("sm_90")
    drawn = candidates(product(*kind), target, 3)
    sources = [source(schedule, target) for schedule in drawn]
    assert len(sources) >= 3 * (1 + len(STAGES))
    assert all("wmma::mma_sync" in text for text in sources)
    ahead = [text for text in sources if "cp.async.wait_group" in text]
    assert 0 < len(ahead) < len(sources)


def test_stock_rules_still_need_ours() -> None:
    """Once a TVM lowers its own space, this package can go."""
    tvm = load_tvm(intrinsics=True)
    target = gpu("sm_90")
    ms = tvm.s_tir.meta_schedule
    context = new_context(product("float16", "float32", (128, 128, 128), False), target, 0, 1)
    stock = ms.TuneContext(
        mod=context.mod, target=target, space_generator="post-order-apply", num_threads=1
    )
    failed = 0
    for sketch in sketches_of(stock.generate_design_space()):
        evolution = Evolution(
            stock, [sketch], lambda s: np.zeros(len(s)), None, np.random.default_rng(4)
        )
        for one in evolution.draw(4):
            try:
                source(one.schedule, target)
            except Exception as error:
                failed += "tvm_access_ptr" in str(error)
    assert failed > 0


@pytest.mark.parametrize(
    ("arch", "asynchronous", "bfloat16"), [("sm_75", False, False), ("sm_80", True, True)]
)
def test_the_space_holds_what_the_processor_has(
    arch: str, asynchronous: bool, bfloat16: bool
) -> None:
    target = gpu(arch)
    traces = [
        str(one.trace)
        for one in new_context(
            product("float16", "float32", (64, 64, 64), False), target, 0, 1
        ).generate_design_space()
    ]
    assert any("software_pipeline_async_stages" in trace for trace in traces) == asynchronous
    shorter = new_context(product("bfloat16", "float32", (64, 64, 64), False), target, 0, 1)
    found = [str(one.trace) for one in shorter.generate_design_space()]
    assert any("wmma_sync_16x16x16_bf16bf16f32" in trace for trace in found) == bfloat16


def test_other_targets_have_no_tensor_cores(cpu: Any) -> None:
    assert space_for(cpu) == "post-order-apply"
    assert roomy(cpu) is cpu
    assert tensor_core_tiling(61) is None
    assert capability(gpu("sm_90a")) == capability(resolve_target("nvidia/nvidia-h100")) == 90
    assert capability(cpu) == 0
    assert type(design_space(gpu("sm_61"))).__name__ == "PostOrderApply"


def test_a_block_may_have_the_shared_memory_of_its_processor() -> None:
    assert int(roomy(gpu("sm_90")).attrs["max_shared_memory_per_block"]) == 227 << 10
    assert int(roomy(gpu("sm_86")).attrs["max_shared_memory_per_block"]) == 99 << 10
    unknown = gpu("sm_999")
    assert roomy(unknown) is unknown


def sums(sketch: Any, vector: Any) -> int:
    """Sums of a thread: virtual threads and the inner two of both spatial tiles' five levels."""
    tiles = [vector[slot.start : slot.stop] for slot in sketch.slots if slot.width == 5]
    assert len(tiles) == 2
    return math.prod(int(tile[level]) for tile in tiles for level in (1, 3, 4))


@pytest.mark.parametrize("operand", ["float32", "float16"])
def test_random_decisions_are_told_what_can_be_launched(operand: str) -> None:
    """Undirected, one in fifty is valid."""
    subgraph = product(operand, "float32", (256, 512, 512), False)
    context = new_context(subgraph, gpu("sm_90"), 0, 1)
    rng = np.random.default_rng(0)
    sketch = sketches_of(context.generate_design_space())[0]
    drawn = [sketch.sample(rng) for _ in range(40)]
    assert all(map(sketch.allows, drawn))
    if operand == "float32":
        assert all(1 <= sums(sketch, vector) <= THREAD_REGISTERS for vector in drawn)
        crowded = drawn[0].copy()
        inner = sketch.slots[0].stop - 1
        crowded[inner] = THREAD_REGISTERS + 1
        assert not sketch.allows(crowded)
    valid = [apply_decisions(context, sketch, vector, 1) is not None for vector in drawn]
    assert sum(valid) >= 10
    too_many = drawn[0].copy()
    threads = max(sketch._bounds, key=lambda bound: bound.high).places
    for slot in sketch.slots:
        if not set(threads).isdisjoint(range(slot.start, slot.stop)):
            too_many[slot.start : slot.stop] = 1
            too_many[[at for at in threads if slot.start <= at < slot.stop]] = slot.extent
    assert not sketch.allows(too_many)
    assert apply_decisions(context, sketch, too_many, 1) is None


@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
def test_tensor_cores_are_in_the_machine_code(operand: str) -> None:
    from tvm.support.nvcc import compile_cuda

    from spamm.cuda._compile import sass

    target = gpu("sm_90")
    drawn = candidates(product(operand, "float32", (64, 64, 64), False), target, 1)
    for schedule in drawn[:2]:
        text = source(schedule, target)
        cubin = compile_cuda(text, target_format="cubin", arch="sm_90", compiler="nvrtc")
        assert "HMMA" in sass(bytes(cubin))


def registered(name: str) -> bool:
    """Whether a process that has drawn nothing knows an intrinsic; runs in a worker."""
    load_tvm(intrinsics=True)
    intrinsics = importlib.import_module("tvm.s_tir").TensorIntrin
    return intrinsics.get(name, allow_missing=True) is not None


def test_records_of_bfloat16_can_be_applied_where_none_was_drawn() -> None:
    with WorkerPool(1) as pool:
        assert pool.submit(registered, "wmma_sync_16x16x16_bf16bf16f32").result(timeout=120)
        assert pool.submit(registered, "wmma_load_16x16x16_bf16_b_trans_shared_dyn").result(120)
