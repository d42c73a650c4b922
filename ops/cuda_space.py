"""The design space of CUDA targets: tensor cores where there are any, shared memory on demand.

MetaSchedule's own rules stage operands in static shared memory, of which CUDA grants a block 48 KiB
whatever the processor has, and five of six random candidates ask for more. Here operands are staged
in dynamic shared memory, which a block may have as much of as a multiprocessor has.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import meta_schedule as ms

from ops.tensor_cores import READ_SCOPE, tensor_core_tiling


def design_space(target: Any) -> Any:
    """A space generator for a CUDA target."""
    rules = list(ms.schedule_rule.ScheduleRule.create("cuda"))
    custom, *others = [
        _tiling() if isinstance(rule, ms.schedule_rule.MultiLevelTiling) else rule for rule in rules
    ]
    on_tensor_cores = tensor_core_tiling(capability(target))
    first = [custom] if on_tensor_cores is None else [custom, on_tensor_cores]
    kind = "cuda" if on_tensor_cores is None else "cuda-tensorcore"
    return ms.space_generator.PostOrderApply(
        sch_rules=[*first, *others], postprocs=kind, mutator_probs=kind
    )


def capability(target: Any) -> int:
    """Compute capability of a CUDA target, such as 90; 0 where its ``arch`` names none."""
    arch = str(target.attrs.get("arch", ""))
    digits = "".join(c for c in arch.removeprefix("sm_") if c.isdigit())
    return int(digits) if arch.startswith("sm_") and digits else 0


def _tiling() -> Any:
    """MetaSchedule's tiling for CUDA cores, its operands in dynamic shared memory."""
    reuse = ms.schedule_rule.ReuseType
    return ms.schedule_rule.MultiLevelTiling(
        structure="SSSRRSRS",
        tile_binds=["blockIdx.x", "vthread.x", "threadIdx.x"],
        max_innermost_factor=64,
        vector_load_lens=[1, 2, 3, 4, 8, 16],
        reuse_read=reuse("must", levels=[4], scope=READ_SCOPE),
        reuse_write=reuse("must", levels=[3], scope="local"),
    )
