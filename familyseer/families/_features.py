"""Structural features of a subgraph: what decides which schedules are good, read from its TIR.

The vector is scaled for distances: two subgraphs at Euclidean distance 1 or more differ in a way
that changes their schedules (a window or none, an operand reused or streamed, another element
width); extents count on a log scale with weights so small that the same operation at a size 16
times larger stays well within 1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from familyseer.families._operation import (
    anchor_stage,
    core_operation,
    factor_reads,
    operation_sequence,
    private_extent,
    shared_extent,
    windows,
)
from familyseer.families._stages import Access, Stage
from familyseer.families._tir import read_stages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COSTLY = frozenset(
    {
        *("divide", "erf", "exp", "exp2", "exp10", "log", "log2", "log10", "log1p", "pow"),
        *("rsqrt", "sigmoid", "sqrt", "sin", "cos", "tan", "tanh"),
    }
)


@dataclass(frozen=True)
class Reach:
    """How an innermost loop moves the operands: shares of the anchor's operands, summing to 1.

    Attributes
    ----------
    still
        Not moved: the loaded value is reused.
    contiguous
        Moved to the next element in memory.
    strided
        Moved further, or irregularly.
    """

    still: float = 1.0
    contiguous: float = 0.0
    strided: float = 0.0


@dataclass(frozen=True)
class StructuralFeatures:
    """What is known of a subgraph's structure.

    Attributes
    ----------
    operation
        The anchor's operation (see `core_operation`).
    sequence
        The operations of all stages, in order.
    dtype, out_dtype
        Element type of the anchor's first operand, and of its result.
    window, stride
        Extent and step of each sliding window; empty for none.
    depth
        Product of the reduction extents that are not a window (channels, a matmul's k).
    spatial
        Product of the output extents.
    factors
        Tensors multiplied with one another: 2 for convolutions and matmuls, else 0.
    reused_factors
        Factors whose elements serve more than one output.
    shared_axes
        Whether an output axis moves both factors (a batch, groups, channels).
    reuse
        Loads per element of each operand, largest first.
    along_output, along_reduction
        How the innermost output and reduction loops move the operands.
    intensity
        The anchor's operations per byte of its operands and result.
    maximum
        Whether the reduction is a max or min.
    reductions, stages
        Number of reducing stages, and of all stages.
    padded
        A stage before the anchor pads.
    indirect, rearranged
        A stage looks indices up; a stage divides or permutes them.
    body, epilogue
        Operations of the anchor, and of the stages after it.
    residual
        A stage after the anchor reads a second tensor as large as its result.
    """

    operation: str
    sequence: tuple[str, ...]
    dtype: str
    out_dtype: str
    window: tuple[int, ...]
    stride: tuple[int, ...]
    depth: int
    spatial: int
    factors: int
    reused_factors: int
    shared_axes: bool
    reuse: tuple[float, ...]
    along_output: Reach
    along_reduction: Reach
    intensity: float
    maximum: bool
    reductions: int
    stages: int
    padded: bool
    indirect: bool
    rearranged: bool
    body: tuple[str, ...]
    epilogue: tuple[str, ...]
    residual: bool

    def named(self) -> dict[str, float]:
        """The vector's components by name, in its order, scaled as the vector is."""
        taps = math.prod(self.window)
        costly = len(_COSTLY.intersection(self.body))
        late = len(_COSTLY.intersection(self.epilogue))
        largest_reuse = self.reuse[0] if self.reuse else 1.0
        bits, kind = _dtype(self.dtype)
        # what only streams its tensors is bound by memory, whatever their element type
        typed = 1.0 if self.reductions else 0.2
        return {
            "reduces": 1.2 * bool(self.reductions),
            "contracts": 1.2 * bool(self.factors),
            "windows": 0.5 * bool(self.window) + 0.25 * len(self.window),
            "sliding": 0.9 * (taps > 1),
            "taps": 0.12 * math.log2(taps),
            "stride": 0.15 * math.log2(max((1, *self.stride))),
            "depth": 0.04 * math.log2(self.depth),
            "deep": 0.4 * (self.depth > 1),
            "spatial": 0.03 * math.log2(self.spatial),
            "reused_factors": 0.8 * self.reused_factors,
            "shared_axes": 0.8 * self.shared_axes,
            "reuse": 0.05 * math.log2(max(1.0, largest_reuse)),
            "output_still": 0.3 * self.along_output.still,
            "output_contiguous": 0.3 * self.along_output.contiguous,
            "output_strided": 0.3 * self.along_output.strided,
            "reduction_still": 0.3 * self.along_reduction.still,
            "reduction_contiguous": 0.3 * self.along_reduction.contiguous,
            "reduction_strided": 0.3 * self.along_reduction.strided,
            "intensity": 0.06 * math.log2(max(2.0**-6, self.intensity)),
            "maximum": 0.2 * self.maximum,
            "spreads": 0.8 * (self.operation in ("softmax", "normalization")),
            "reductions": 0.2 * self.reductions,
            "stages": 0.1 * math.log2(max(1, self.stages)),
            "padded": 0.1 * self.padded,
            "indirect": 0.6 * self.indirect,
            "rearranged": 0.3 * self.rearranged,
            "computes": 0.3 * bool(self.body),
            "costly": 0.2 * math.log2(1 + costly),
            "epilogue": 0.1 * math.log2(1 + len(self.epilogue)),
            "costly_epilogue": 0.15 * math.log2(1 + late),
            "residual": 0.15 * self.residual,
            "bits": 0.7 * typed * math.log2(bits),
            "integer": typed * (kind != "float"),
        }

    def vector(self) -> NDArray[np.float64]:
        """The components of `named` as a float64 array of shape ``(len(VECTOR_FIELDS),)``."""
        import numpy as np  # the command line's help must not wait for it

        return np.fromiter(self.named().values(), np.float64)

    def sort_key(self) -> tuple[float, ...]:
        """An order of subgraphs that depends on neither their names nor their places."""
        return tuple(round(value, 9) for value in self.named().values())


def structural_features(mod: Any, name: str = "subgraph") -> StructuralFeatures:
    """The features of a subgraph's TIR.

    Parameters
    ----------
    mod
        An ``IRModule`` with one ``PrimFunc`` (``main`` if there are several), or a ``PrimFunc``.
    name
        What an error calls it.

    Raises
    ------
    UserError
        There is no ``PrimFunc``.
    """
    return features_of(read_stages(mod, name))


def features_of(stages: tuple[Stage, ...]) -> StructuralFeatures:
    """As `structural_features`, from stages that were read before."""
    position = anchor_stage(stages) if stages else 0
    anchor = stages[position] if stages else Stage((), (), (), (), False)
    slid = windows(anchor) if anchor.reduces else ()
    taken = {w.reduction for w in slid}
    factors = factor_reads(anchor) if anchor.reduces else ()
    reused, shared = _sharing(anchor, factors)
    indices = [dim for s in stages for read in s.reads for dim in read.dims]
    later = stages[position + 1 :]
    return StructuralFeatures(
        operation=core_operation(stages),
        sequence=operation_sequence(stages),
        dtype=anchor.reads[0].dtype if anchor.reads else "float32",
        out_dtype=anchor.writes[0].dtype if anchor.writes else "float32",
        window=tuple(w.taps for w in slid),
        stride=tuple(w.stride for w in slid),
        depth=math.prod(
            a.extent for i, a in enumerate(anchor.axes) if a.reduces and i not in taken
        ),
        spatial=anchor.iterations(reducing=False),
        factors=len(factors),
        reused_factors=reused,
        shared_axes=shared,
        reuse=tuple(sorted((_reuse(anchor, r) for r in anchor.reads), reverse=True)),
        along_output=_along_output(anchor),
        along_reduction=_along_reduction(anchor),
        intensity=anchor.iterations() * len(anchor.operations) / max(1.0, _bytes(anchor)),
        maximum=anchor.reduces and bool({"max", "min", "relu"}.intersection(anchor.operations)),
        reductions=sum(stage.reduces for stage in stages),
        stages=sum(not stage.copies_in_place() for stage in stages),
        padded=any(stage.guarded for stage in stages[:position]),
        indirect=any(dim.indirect for dim in indices),
        rearranged=any(dim.bent and not dim.indirect for dim in indices),
        body=anchor.operations,
        epilogue=tuple(op for stage in later for op in stage.operations),
        residual=any(_residual(stage, anchor) for stage in later),
    )


def _sharing(anchor: Stage, factors: tuple[Access, ...]) -> tuple[int, bool]:
    """How many factors are reused over outputs, and whether an output axis moves both."""
    if len(factors) != 2:
        return 0, False
    left, right = factors
    # a factor is reused along the output axes that move the other one alone
    private = (private_extent(anchor, left, right), private_extent(anchor, right, left))
    return sum(extent > 1 for extent in private), shared_extent(anchor, left, right) > 1


def _along_output(anchor: Stage) -> Reach:
    """Along the output axis that is fastest in memory."""
    if not anchor.writes:
        return Reach()
    store = anchor.writes[0]
    steps = [
        (step, i)
        for i, axis in enumerate(anchor.axes)
        if axis.extent > 1 and not axis.reduces and (step := store.step(i))
    ]
    return _reach(anchor, min(steps)[1]) if steps else Reach()


def _along_reduction(anchor: Stage) -> Reach:
    """Along the innermost reduction axis."""
    inner = [i for i, axis in enumerate(anchor.axes) if axis.reduces and axis.extent > 1]
    return _reach(anchor, inner[-1]) if inner else Reach()


def _reach(anchor: Stage, axis: int) -> Reach:
    steps = [read.step(axis) for read in anchor.reads]
    if not steps:
        return Reach()
    still, contiguous = steps.count(0), sum(step in (1, -1) for step in steps)
    rest = len(steps) - still - contiguous
    return Reach(still / len(steps), contiguous / len(steps), rest / len(steps))


def _touched(anchor: Stage, access: Access) -> int:
    return min(access.elements(), anchor.iterations())


def _reuse(anchor: Stage, access: Access) -> float:
    return anchor.iterations() / _touched(anchor, access)


def _bytes(anchor: Stage) -> float:
    accesses = (*anchor.reads, *anchor.writes)
    return sum(_touched(anchor, a) * _dtype(a.dtype)[0] / 8 for a in accesses)


def _dtype(dtype: str) -> tuple[int, str]:
    """Bits and kind of an element type: ``"float16"`` gives ``(16, "float")``."""
    found = re.match(r"(bfloat|float|uint|int|bool)(\d*)", dtype)
    if not found:
        return 32, "other"
    kind = "float" if found[1] == "bfloat" else "int" if found[1] == "uint" else found[1]
    return int(found[2] or (8 if kind == "bool" else 32)), kind


def _residual(stage: Stage, anchor: Stage) -> bool:
    large = [r for r in stage.reads if r.elements() >= anchor.iterations(reducing=False) > 1]
    return len({read.tensor for read in large}) > 1


VECTOR_FIELDS = tuple(features_of(()).named())
