"""SpAMM as an operator of Relax modules: a product with a constant weight that skips blocks.

After SpAMM (arXiv 2103.13042): a product of a block of the weight and a block of the activations
is skipped where their Frobenius norms multiply to less than tau. The weight's blocks are packed
and their norms taken when the operator is made; blocks of zeros are left out then (so that they
contribute nothing even where activations are infinite). The activations' norms are computed at
run time. The operator is TIR in the module: its library needs nothing but TVM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax

from ops._spamm_kernel import Kernel, Shapes, kernel_function
from spamm._norms import block_norms
from spamm.cpu._config import ACCUMULATORS, default_config

Array = npt.NDArray[Any]

# the weight's blocks: about so many elements along its own side, and along k
BLOCKS = ((64, 64), (64, 32), (32, 32))
_STRIP = 96
# tasks a thread: what is left to balance at the end is a fraction of one
_TASKS = 4
# multiply-adds under way at a time, two begun in a cycle; and what a load costs beside them
_LATENCY = 8
_LOADS = 0.05


@dataclass(frozen=True)
class Convolution:
    """A convolution of images (batch, channels, height, width), of one group.

    Attributes
    ----------
    image
        (channels, height, width).
    kernel, stride, dilation
        Along height and width.
    padding
        (top, left, bottom, right).
    """

    image: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the result."""
        _, height, width = self.image
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self._reach(0) - 1) // self.stride[0] + 1,
            (width + left + right - self._reach(1) - 1) // self.stride[1] + 1,
        )

    @property
    def phase(self) -> tuple[int, int]:
        """Height and width of the padded image's phases: every stride-th row and column."""
        return (
            self.out[0] + self._reach(0) // self.stride[0],
            self.out[1] + self._reach(1) // self.stride[1],
        )

    def _reach(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilation[axis]

    @property
    def planes(self) -> int:
        """Channels of the phases: the image's, for every phase that the kernel reaches."""
        pointwise = self.kernel == (1, 1)
        return self.image[0] * (1 if pointwise else math.prod(self.stride))

    def columns(self) -> npt.NDArray[np.int64]:
        """Where each row (c, i, j) of the im2col matrix begins in the phases of an image."""
        (channels, _, _), (sy, sx), (height, width) = self.image, self.stride, self.phase
        c, i, j = np.indices((channels, *self.kernel), dtype=np.int64)
        i, j = i * self.dilation[0], j * self.dilation[1]
        plane = (i % sy * sx + j % sx) * channels + c
        return np.asarray(((plane * height + i // sy) * width + j // sx).ravel())

    def phases(self, builder: Any, x: Any) -> Any:
        """The image padded, and its phases as channels: (batch, planes, *phase)."""
        (sy, sx), (height, width) = self.stride, self.phase
        channels, top, left = self.image[0], self.padding[0], self.padding[1]
        # rows and columns that the kernel does not reach are cut off
        below = height * sy - self.image[1] - top
        beside = width * sx - self.image[2] - left
        if below < 0 or beside < 0:
            ends = [self.image[1] + min(below, 0), self.image[2] + min(beside, 0)]
            x = builder.emit(relax.op.strided_slice(x, axes=[2, 3], begin=[0, 0], end=ends))
        below, beside = max(below, 0), max(beside, 0)
        if any((top, left, below, beside)):
            x = builder.emit(relax.op.nn.pad(x, [0, 0, 0, 0, top, below, left, beside]))
        if (sy, sx) == (1, 1):
            return x
        if self.kernel == (1, 1):
            ends = [height * sy, width * sx]
            return builder.emit(
                relax.op.strided_slice(x, axes=[2, 3], begin=[0, 0], end=ends, strides=[sy, sx])
            )
        batch = int(x.ty.shape[0])
        split = builder.emit(relax.op.reshape(x, (batch, channels, height, sy, width, sx)))
        moved = builder.emit(relax.op.permute_dims(split, [0, 3, 5, 1, 2, 4]))
        return builder.emit(relax.op.reshape(moved, (batch, self.planes, height, width)))


@dataclass(frozen=True)
class Problem:
    """A product C (m x n) of X and a weight.

    Attributes
    ----------
    left
        Whether the weight is the left factor (m x k), of each of `batch` matrices X (k x n); else
        it is the right one (k x n), and X is m x k.
    x, out
        Shapes as the model has them.
    dtype
        Of X and the weight: "float16", "float32" or "float64". C has the type of the sums.
    convolution
        Where X is the im2col matrix of an image; n then are its positions.
    """

    left: bool
    batch: int
    m: int
    k: int
    n: int
    x: tuple[int, ...]
    out: tuple[int, ...]
    dtype: str
    convolution: Convolution | None = None

    @property
    def flops(self) -> int:
        """Floating-point operations of the dense product."""
        return 2 * self.batch * self.m * self.k * self.n

    @property
    def sums(self) -> str:
        """The type that products are added up in."""
        return ACCUMULATORS[self.dtype]


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A weight as the kernel reads it.

    Attributes
    ----------
    kernel
        The code's parameters.
    norms
        Frobenius norms of all blocks, (cells, k-blocks), float64.
    arrays
        Packed blocks, their norms, their k-blocks, offsets, cells, bounds; and, where the weight
        is on the left, columns.
    """

    kernel: Kernel
    norms: npt.NDArray[np.float64]
    arrays: tuple[Array, ...]

    @property
    def stored(self) -> int:
        """Blocks that are not all zeros."""
        return int(np.count_nonzero(self.norms))

    def valid_ratio(self, norms_x: Array, tau: float) -> float:
        """The share of block products that is kept.

        Parameters
        ----------
        norms_x
            Norms of the activations' blocks, (strips, k-blocks), as a probe gives them.
        tau
            Products of norms below it are skipped; 0 keeps all blocks that are not zeros.
        """
        total = norms_x.shape[0] * self.norms.size
        if tau == 0:
            return self.stored * norms_x.shape[0] / total
        kept = 0
        for row in norms_x.astype(np.float64):
            with np.errstate(invalid="ignore"):
                kept += int(np.count_nonzero(~(self.norms * row < tau) & (self.norms != 0)))
        return kept / total


def pack_weight(
    problem: Problem, weight: Array, target: Any, block: tuple[int, int] = BLOCKS[0]
) -> PackedWeight:
    """Cuts a weight into blocks for a CPU and packs those that are not all zeros.

    Parameters
    ----------
    weight
        (m, k) where it is the left factor, else (k, n).
    target
        The CPU, as TVM has it.
    block
        Elements of a block along the weight's own side (rounded to whole register tiles), and
        along k.
    """
    own = weight if problem.left else weight.T
    kernel = _kernel(problem, target, block)
    norms = block_norms(own, kernel.block, kernel.depth)
    cells, k_blocks = norms.shape
    per_cell = np.count_nonzero(norms, axis=1)
    groups = _deal(per_cell, kernel.groups)
    order = np.concatenate(groups).astype(np.int64)
    at_cell, ks = np.nonzero(norms[order])
    wide = np.zeros((cells * kernel.block, k_blocks * kernel.depth), dtype=problem.sums)
    wide[: own.shape[0], : own.shape[1]] = own
    shape = (cells, kernel.panels, kernel.panel, k_blocks, kernel.depth)
    blocks = wide.reshape(shape).transpose(0, 3, 1, 4, 2)
    packed = np.ascontiguousarray(blocks[order[at_cell], ks]).ravel()
    block_elements = kernel.block * kernel.depth
    offsets = np.concatenate([[0], np.cumsum(per_cell[order])])
    bounds = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    with np.errstate(over="ignore"):
        kept_norms = norms[order][at_cell, ks].astype(np.float32)
    # below the smallest number of float32 a norm would be that of a block of zeros
    kept_norms = np.maximum(kept_norms, np.finfo(np.float32).tiny)
    arrays: list[Array] = [
        packed if packed.size else np.zeros(block_elements, dtype=problem.sums),
        kept_norms if packed.size else np.zeros(1, dtype=np.float32),
        ks.astype(np.int32) if packed.size else np.zeros(1, dtype=np.int32),
        offsets.astype(np.int32),
        order.astype(np.int32),
        bounds.astype(np.int32),
    ]
    if problem.left:
        convolution = problem.convolution
        rows = np.arange(problem.k, dtype=np.int64) * problem.n
        arrays.append(rows if convolution is None else convolution.columns())
    return PackedWeight(kernel, norms, tuple(arrays))


class Operator:
    """A product with a packed weight, ready to be put into a module.

    Parameters
    ----------
    name
        A name for its function.
    problem, weight
        What is multiplied.
    tau
        Products of norms below it are skipped; 0 skips blocks of zeros only, and needs no norms
        at run time.
    """

    def __init__(self, name: str, problem: Problem, weight: PackedWeight, tau: float) -> None:
        self.name, self.problem, self.weight, self.tau = name, problem, weight, tau
        self._constants = [_constant(array) for array in weight.arrays]

    def with_tau(self, name: str, tau: float) -> Operator:
        """The same product, with the same constants, at another tau."""
        other = Operator.__new__(Operator)
        other.name, other.problem, other.weight, other.tau = name, self.problem, self.weight, tau
        other._constants = self._constants
        return other

    def emit(self, builder: Any, x: Any, tau: Any = None) -> tuple[Any, Any]:
        """Puts the operator into the function that `builder` builds.

        Parameters
        ----------
        builder
            A `relax.BlockBuilder`, or what a mutator has as ``builder_``.
        x
            The activations, an expression of the problem's shape.
        tau
            An expression, one float32, to be used instead of the operator's own. The norms of the
            activations' blocks are then a second result, (strips, k-blocks).

        Returns
        -------
        The result, of the problem's shape, and the norms (None without `tau`).
        """
        problem, kernel = self.problem, self.weight.kernel
        conv = problem.convolution
        if conv is not None:
            x = conv.phases(builder, x)
        probe = tau is not None
        test = probe or self.tau > 0
        shape = problem.out
        if conv is not None:
            shape = (problem.batch, problem.m, conv.out[0], conv.phase[1])
        x_shape = tuple(int(extent) for extent in x.ty.shape)
        shapes = Shapes(x_shape, shape, self.weight.stored, len(self.weight.norms))
        function = kernel_function(self.name, kernel, shapes, test=test, probe=probe)
        variable = builder.add_func(function.without_attr("global_symbol"), self.name)
        arguments = [x, *self._constants]
        if test:
            arguments.append(tau if probe else _constant(np.asarray([self.tau], np.float32)))
        results: Any = relax.TensorType(shape, problem.sums)
        if probe:
            strips = kernel.batch * kernel.strips
            results = [results, relax.TensorType((strips, kernel.k_blocks), "float32")]
        value = builder.emit(relax.call_tir(variable, arguments, results))
        norms = None
        if probe:
            value, norms = builder.emit(value[0]), builder.emit(value[1])
        if conv is not None and conv.out[1] != conv.phase[1]:
            cut = relax.op.strided_slice(value, axes=[3], begin=[0], end=[conv.out[1]])
            value = builder.emit(cut)
        return value, norms


def _constant(array: Array) -> Any:
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array)))


def _kernel(problem: Problem, target: Any, wanted: tuple[int, int]) -> Kernel:
    conv = problem.convolution
    n, out_stride, x_stride = problem.n, problem.n, math.prod(problem.x[1:])
    if conv is not None:
        (height, width), out = conv.phase, conv.out
        # positions lie in rows as long as the phases' are; the last one ends with the last result
        n, out_stride = (out[0] - 1) * width + out[1], out[0] * width
        x_stride = conv.planes * height * width
    own, other = (problem.m, n) if problem.left else (n, problem.m)
    rows, vectors, lanes = _tile(problem, own, other, wanted[0], target)
    panel = rows if problem.left else vectors * lanes
    along = vectors * lanes if problem.left else rows
    block = max(1, min(wanted[0], own) // panel) * panel
    kernel = Kernel(
        left=problem.left,
        batch=problem.batch,
        m=problem.m,
        k=problem.k,
        n=n,
        x_stride=x_stride if problem.left else 0,
        out_stride=out_stride,
        block=block,
        depth=min(wanted[1], problem.k),
        strip=max(1, _STRIP // along) * along,
        rows=rows,
        vectors=vectors,
        lanes=lanes,
        groups=1,
        dtype=problem.dtype,
        sums=problem.sums,
    )
    tasks = _TASKS * max(1, int(target.attrs.get("num-cores", 1) or 1))
    groups = -(-tasks // (kernel.batch * kernel.strips))
    return replace(kernel, groups=max(1, min(groups, -(-own // block))))


def _tile(problem: Problem, own: int, other: int, block: int, target: Any) -> tuple[int, int, int]:
    """Rows, vectors and lanes of the register tile that wastes least on these extents."""
    default = default_config(problem.dtype, target)
    # what the default tile, of two vectors, leaves free
    registers = 2 * default.rows + 4
    lanes = default.lanes
    extent = other if problem.left else own
    while lanes > 1 and lanes > extent:
        lanes //= 2
    best: tuple[float, int, tuple[int, int, int]] | None = None
    for vectors in range(1, 5):
        for rows in range(1, registers):
            columns = vectors * lanes
            if (rows + 1) * vectors + 2 > registers or (columns if problem.left else rows) > other:
                continue
            work = max(rows * vectors, rows + vectors, _LATENCY) / 2 + _LOADS * (rows + vectors)
            side = rows if problem.left else columns
            if side > block and side > lanes:
                continue
            tiles = -(-other // (columns if problem.left else rows)) * -(-own // side)
            cost = work * tiles
            if best is None or (cost, -rows) < best[:2]:
                best = (cost, -rows, (rows, vectors, lanes))
    assert best is not None
    return best[2]


def _deal(work: Array, groups: int) -> list[Array]:
    """Cells in groups of about equal work: dealt out by size, to and fro."""
    order = np.argsort(-work, kind="stable")
    turn = np.arange(order.size) % (2 * groups)
    to = np.minimum(turn, 2 * groups - 1 - turn)
    return [np.sort(order[to == group]) for group in range(groups)]
