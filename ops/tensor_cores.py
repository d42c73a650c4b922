"""A schedule rule for NVIDIA's tensor cores, of schedules that this TVM can build.

MetaSchedule's own rules keep operands and accumulator in one dynamic allocation of shared memory.
With float32 accumulation of float16 the two differ in type, and TVM 0.27 cannot lower that. Here
the accumulator is staged through static shared memory instead, and operands are fetched ahead of
their use by asynchronous copies where the processor has them.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import tvm
from tvm.s_tir import TensorIntrin
from tvm.s_tir import meta_schedule as ms

READ_SCOPE, WRITE_SCOPE = "shared.dyn", "shared"
# buffers of each operand tile: one is computed on while the others are filled
STAGES = (2, 3)
# compute capability of the first tensor cores, of asynchronous copies, of bfloat16
_TENSOR_CORES, _ASYNC_COPIES, _BFLOAT16, _INT8 = 70, 80, 80, 75

_SHAPE = (16, 16, 16)


def tensor_core_tiling(capability: int) -> Any | None:
    """The schedule rule for a processor of a compute capability, such as 90; None before 70.

    Float16 and bfloat16 products accumulate in float32 or float16, int8 products in int32, as the
    subgraph says. TF32 is left out: TVM has no intrinsic for it.
    """
    if capability < _TENSOR_CORES:
        return None
    reuse = ms.schedule_rule.ReuseType
    tiling = ms.schedule_rule.MultiLevelTilingTensorCore(
        intrin_groups=_groups(capability),
        structure="SSSRRSRS",
        tile_binds=["blockIdx.y", "blockIdx.x", "threadIdx.y"],
        max_innermost_factor=4,
        vector_load_lens=[1, 2, 3, 4, 8, 16],
        reuse_read=reuse("must", levels=[4], scope=READ_SCOPE),
        reuse_write=reuse("must", levels=[2], scope=WRITE_SCOPE),
        use_software_pipeline=False,
    )
    return Pipelined(tiling) if capability >= _ASYNC_COPIES else tiling


def _groups(capability: int) -> list[dict[str, str]]:
    kinds = [("float16", "float32"), ("float16", "float16")]
    if capability >= _INT8:
        kinds.append(("int8", "int32"))
    if capability >= _BFLOAT16:
        kinds.append(("bfloat16", "float32"))
        register_bfloat16()
    return [_group(*kind, transposed=t) for kind in kinds for t in (False, True)]


def _group(operand: str, accumulator: str, *, transposed: bool) -> dict[str, str]:
    short = {"float16": "f16", "bfloat16": "bf16", "int8": "s8", "float32": "f32", "int32": "s32"}
    o, a, trans = short[operand], short[accumulator], "_trans" if transposed else ""
    read, write = READ_SCOPE.replace(".", "_"), WRITE_SCOPE.replace(".", "_")
    return {
        "init": f"wmma_fill_16x16x16_{a}",
        "load_a": f"wmma_load_16x16x16_{o}_a_{read}",
        "load_b": f"wmma_load_16x16x16_{o}_b{trans}_{read}",
        "compute": f"wmma_sync_16x16x16_{o}{o}{a}{trans}",
        "store": f"wmma_store_16x16x16_{a}_{write}",
    }


@lru_cache(maxsize=1)
def register_bfloat16() -> None:
    """Registers the intrinsics of bfloat16, named as TVM names those of float16.

    A database with bfloat16 records is applied in a process that has called this.
    """
    cuda = importlib.import_module("tvm.s_tir.tensor_intrin.cuda")
    read = READ_SCOPE.replace(".", "_")
    for operand, is_b, column in (("a", False, False), ("b", True, False), ("b_trans", True, True)):
        intrinsic = cuda.get_wmma_load_intrin(*_SHAPE, "bfloat16", READ_SCOPE, is_b, column)
        TensorIntrin.register(f"wmma_load_16x16x16_bf16_{operand}_{read}", *intrinsic)
    for name, transposed in (("", False), ("_trans", True)):
        intrinsic = cuda.get_wmma_sync_intrin(*_SHAPE, "bfloat16", "float32", transposed)
        TensorIntrin.register(f"wmma_sync_16x16x16_bf16bf16f32{name}", *intrinsic)


@tvm.ir.utils.derived_object
class Pipelined(ms.schedule_rule.PyScheduleRule):
    """A tiling rule's schedules, and the same with operands fetched ahead of their use.

    Parameters
    ----------
    tiling
        A rule that tiles for tensor cores and stages both operands in shared memory.
    """

    def __init__(self, tiling: Any) -> None:
        super().__init__()
        self.tiling = tiling

    def _initialize_with_tune_context(self, context: Any) -> None:
        self.tiling._initialize_with_tune_context(context)

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """The schedules that this rule makes of one."""
        # rules meet every block: those after the product find it tiled, and perhaps pipelined
        was_tiled = bool(_staged(sch))
        tiled = list(self.tiling.apply(sch, block))
        if was_tiled:
            return tiled
        return tiled + [ahead for one in tiled for n in STAGES if (ahead := _fetched_ahead(one, n))]

    def clone(self) -> Any:
        """A copy, as MetaSchedule asks for one a thread."""
        return Pipelined(self.tiling.clone())


def _fetched_ahead(sch: Any, stages: int) -> Any | None:
    """A copy in which operands arrive `stages` - 1 steps early; None if nothing was tensorised."""
    ahead = sch.copy()
    staged = _staged(ahead)
    if len(staged) != 2:
        return None
    # the innermost loop fetches a tile, the one around it goes from tile to tile
    *_, over_tiles, _ = ahead.get_loops(ahead.get_sblock(staged[0]))
    # the body: fetch one operand, fetch the other, compute
    ahead.annotate(over_tiles, "software_pipeline_stage", [0, 0, stages - 1])
    ahead.annotate(over_tiles, "software_pipeline_order", [0, 1, 2])
    ahead.annotate(over_tiles, "software_pipeline_async_stages", [0])
    return ahead


def _staged(sch: Any) -> list[str]:
    """Names of the blocks that fetch operands into shared memory."""
    # of a copy, since looking is written into a schedule's trace
    sch = sch.copy()
    names, waiting = [], [sch.get_sblock("root")]
    while waiting:
        for child in sch.get_child_blocks(waiting.pop()):
            names.append(str(sch.get(child).name_hint))
            waiting.append(child)
    return [name for name in names if name.endswith(f"_{READ_SCOPE}")]
