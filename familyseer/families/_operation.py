"""Names what a stage computes from its axes and indices, whatever its function is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from familyseer.families._stages import Access, Stage


@dataclass(frozen=True)
class Window:
    """A dimension read at the sum of an output axis and a reduction axis (convolution, pooling).

    Attributes
    ----------
    spatial, reduction
        The two axes.
    taps
        Extent of the reduction axis.
    stride
        Elements between the windows of neighbouring outputs.
    """

    spatial: int
    reduction: int
    taps: int
    stride: int


def anchor_stage(stages: Sequence[Stage]) -> int:
    """Position of the stage whose schedule matters most.

    As MetaSchedule's ``find_anchor_sblock``: the reduction with the most work; without a reduction,
    the stage with the most work.
    """
    reducing = [i for i, stage in enumerate(stages) if stage.reduces]
    return max(reducing or range(len(stages)), key=lambda i: stages[i].work())


def windows(stage: Stage) -> tuple[Window, ...]:
    """The sliding windows of a reduction, in the order of the dimensions they are read in."""
    found = []
    for read in stage.reads:
        others = {axis for r in stage.reads if r.tensor != read.tensor for axis in r.axes()}
        for dim in read.dims:
            spatial = [(a, c) for a, c in dim.steps if not stage.axes[a].reduces]
            reduction = [a for a, _ in dim.steps if stage.axes[a].reduces]
            # an output axis that another operand is read along too picks a group, not a window
            if len(spatial) == 1 and reduction and not dim.bent and spatial[0][0] not in others:
                axis, stride = spatial[0]
                taps = stage.axes[reduction[0]].extent
                found.append(Window(axis, reduction[0], taps, abs(stride)))
    return tuple(dict.fromkeys(found))


def factor_reads(stage: Stage) -> tuple[Access, ...]:
    """The loads of the two tensors that a contraction multiplies; empty if it multiplies none."""
    wanted = stage.factors or ()
    by_tensor = {read.tensor: read for read in reversed(stage.reads)}
    return tuple(by_tensor[tensor] for tensor in wanted if tensor in by_tensor)


def private_extent(stage: Stage, read: Access, other: Access) -> int:
    """Iterations of the output axes that move `read` but not `other`."""
    axes = read.axes() - other.axes()
    return math.prod(stage.axes[a].extent for a in axes if not stage.axes[a].reduces)


def shared_extent(stage: Stage, left: Access, right: Access) -> int:
    """Iterations of the output axes that move both operands: a batch, groups, or channels."""
    axes = left.axes() & right.axes()
    return math.prod(stage.axes[a].extent for a in axes if not stage.axes[a].reduces)


def core_operation(stages: Sequence[Stage]) -> str:
    """What the anchor computes: ``conv2d``, ``matmul``, ``max_pool2d``, ``softmax``, ``copy``, ...

    The words: ``convNd``, ``depthwise_convNd``, ``grouped_convNd``, ``matmul``, ``batch_matmul``,
    ``matvec``, ``max_poolNd``, ``min_poolNd``, ``avg_poolNd``, ``softmax``, ``normalization``,
    ``reduction``, ``elementwise``, ``gather``, ``copy``, ``extern``.
    """
    if not stages:
        return "extern"
    position = anchor_stage(stages)
    anchor = stages[position]
    if not anchor.reduces:
        return _pointwise(stages)
    factors = factor_reads(anchor)
    if len(factors) == 2:
        return _contraction(anchor, factors[0], factors[1])
    slid = windows(anchor)
    if slid:
        kind = next((op for op in ("max", "min") if op in anchor.operations), "avg")
        return f"{kind}_pool{len(slid)}d"
    return _reduction(stages, position)


def _contraction(anchor: Stage, left: Access, right: Access) -> str:
    shared = shared_extent(anchor, left, right)
    slid = windows(anchor)
    if slid:
        taken = {w.reduction for w in slid}
        depth = math.prod(
            a.extent for i, a in enumerate(anchor.axes) if a.reduces and i not in taken
        )
        prefix = "" if shared == 1 else "depthwise_" if depth == 1 else "grouped_"
        return f"{prefix}conv{len(slid)}d"
    if min(private_extent(anchor, left, right), private_extent(anchor, right, left)) == 1:
        return "matvec"
    return "matmul" if shared == 1 else "batch_matmul"


def _reduction(stages: Sequence[Stage], position: int) -> str:
    anchor = stages[position]
    results = anchor.iterations(reducing=False)
    spread = any(
        s.iterations() >= anchor.iterations() > results and s.operations and not s.reduces
        for s in stages[position + 1 :]
    )
    if not spread:
        return "reduction"
    return "softmax" if any("exp" in s.operations for s in stages) else "normalization"


def _pointwise(stages: Sequence[Stage]) -> str:
    if any(stage.operations for stage in stages):
        known = any(stage.writes for stage in stages)
        return "elementwise" if known else "extern"
    if any(dim.indirect for s in stages for read in s.reads for dim in read.dims):
        return "gather"
    return "copy"


def operation_sequence(stages: Sequence[Stage]) -> tuple[str, ...]:
    """What the stages compute, in program order, copies to the same place left out.

    Examples: ``("pad", "conv2d", "add", "relu")``, ``("copy",)``.
    """
    operation = core_operation(stages)
    if not stages:
        return (operation,)
    anchor = anchor_stage(stages)
    plain = operation in ("elementwise", "copy", "gather")
    words = [
        operation if i == anchor and not plain else stage_word(stage)
        for i, stage in enumerate(stages)
        if (i == anchor and not plain) or not stage.copies_in_place()
    ]
    return tuple(words) or (operation,)


def stage_word(stage: Stage) -> str:
    """One word, or a few joined by ``_``, for what a stage computes."""
    operations = stage.operations
    if set(operations) == {"relu", "min"}:
        return "clip"
    if operations:
        if stage.reduces and operations[0] == "add":
            operations = ("sum", *operations[1:])
        return "_".join(operations)
    if stage.guarded:
        return "concatenate" if len(stage.reads) > 1 else "pad"
    return "gather" if any(d.indirect for r in stage.reads for d in r.dims) else "copy"
