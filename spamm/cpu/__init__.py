"""The CPU backend: kernels generated and compiled by TVM; see `spamm._backends` for the contract.

Both operands are packed first, only the blocks that the plan uses; half-precision types become
float32 on the way. Importing this needs TVM.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._norms import block_norms, grid_of
from spamm._plan import Plan
from spamm.cpu import _threads
from spamm.cpu._block_norms import KEPT
from spamm.cpu._build import compiled_kernel, compiled_norms, cpu_kernel
from spamm.cpu._choice import block_for, config_of_plan
from spamm.cpu._config import (
    ACCUMULATORS,
    ROWS_TOGETHER,
    CpuConfig,
    Sizes,
    space,
)

__all__ = [
    "CpuConfig",
    "cpu_kernel",
    "default_block",
    "multiply",
    "norms",
    "space",
    "supports",
]

Array = npt.NDArray[Any]

# Below so many multiply-adds or elements, handing work to threads costs more than it saves
_WORTH_THREADS = 1 << 19
# A block taller or wider would add up more terms than its norm's accuracy allows for
_MOST_TERMS = 1 << 12
# Where the kernel stores a tile it spends about as much as on so many k-blocks
_STORE = 0.25
# Squares of float64 stay clear of under- and overflow where the largest magnitude of a block lies
# between these
_SAFE_PEAKS = (2.0**-400, 2.0**400)
_ALIGNMENT = 64


def default_block(m: int, k: int, n: int, dtype: np.dtype[Any]) -> Sizes:
    """Block sizes (bm, bk, bn) for an (m x k) by (k x n) product where the caller names none."""
    return block_for((m, k, n), dtype.name)


def supports(block: Sizes, dtype: np.dtype[Any]) -> str | None:
    """None, or one line that says why this backend cannot do it."""
    if dtype.name in ACCUMULATORS:
        return None
    return f"dtype: backend 'cpu' multiplies {', '.join(ACCUMULATORS)}, got {dtype.name}"


def norms(array: Array, rows: int, cols: int) -> npt.NDArray[np.float64]:
    """Frobenius norm of each block of a matrix; as `spamm._norms.block_norms`, on all cores.

    Parameters
    ----------
    array
        Matrix (m, n) of a type that `supports` knows, in any layout.
    rows, cols
        A block's size; blocks at the lower and right edge may be smaller.

    Returns
    -------
    Norms of shape (ceil(m / rows), ceil(n / cols)), +inf for blocks with a NaN or an infinity.
    """
    if max(rows, cols) > _MOST_TERMS:
        return block_norms(array, rows, cols)
    array, stride, in_rows = _layout(array)
    if not in_rows:
        return np.ascontiguousarray(norms(array.T, cols, rows).T)
    m, n = array.shape
    result = np.empty((grid_of(m, rows), grid_of(n, cols)))
    peaks = np.empty_like(result) if array.dtype == np.float64 else None
    function = compiled_norms(array.dtype.name)
    given = [_pointer(array), _pointer(result)]
    more = [] if peaks is None else [_pointer(peaks)]

    def some(first: int, last: int) -> None:
        kept = _aligned(KEPT, result.dtype)
        function(*given, _pointer(kept), *more, first, last, stride, m, n, rows, cols)

    _threads.run(some, _even(result.shape[0], array.size))
    result[~np.isfinite(result)] = np.inf
    # relative accuracy ends where numbers are denormal: there a norm is rounded up
    limits = np.finfo(np.float64)
    result[(result > 0) & (result < limits.tiny)] += 2 * limits.smallest_subnormal
    if peaks is not None:
        _repair(result, peaks, array, rows, cols)
    return result


def _repair(norms: Array, peaks: Array, array: Array, rows: int, cols: int) -> None:
    """Norms of float64 blocks whose squares may have under- or overflowed, from scaled values."""
    low, high = _SAFE_PEAKS
    doubtful = (peaks != 0) & ~((peaks >= low) & (peaks <= high))
    for i, j in np.argwhere(doubtful):
        block = array[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
        norms[i, j] = block_norms(block, rows, cols)[0, 0]


def multiply(a: Array, b: Array, plan: Plan, out: Array, config: CpuConfig | None = None) -> None:
    """Overwrites `out` with the plan's products of a (m x k) and b (k x n).

    Sums are float64 for float64 operands, else float32; they are rounded once to the type of
    `out`. All arrays may have any layout; `out` may share memory with an operand. `config` names
    a register tile other than the tuned one, or the one that fits the plan's blocks best.
    """
    if config is None:
        config = config_of_plan(plan, a.dtype.name)
    kernel = compiled_kernel(config, a.dtype.name)
    sums = np.dtype(ACCUMULATORS[a.dtype.name])
    used_a, used_b = _used(plan)
    bm, bk, bn = plan.block
    packed_a, slots_a = _pack(kernel, "pack_a", config.rows, a, used_a, (bm, bk), sums)
    packed_b, slots_b = _pack(kernel, "pack_b", config.columns, b.T, used_b.T, (bn, bk), sums)
    slots_b = np.ascontiguousarray(slots_b.T)
    ready = out.dtype == sums and _stride(out, 0) is not None and out.dtype.isnative
    into = out if ready else np.empty(out.shape, dtype=sums)
    offsets, ks = np.ascontiguousarray(plan.offsets), np.ascontiguousarray(plan.ks)
    cells = _order(plan)
    arrays = (packed_a, packed_b, into, cells, offsets, ks, slots_a, slots_b)
    arguments = [_pointer(each) for each in arrays]
    sizes = (*plan.shape, *plan.block, _stride(into, 0) or 0, max(1, config.depth // bk))
    function = kernel["multiply"]
    tiles = grid_of(bm, config.rows) * grid_of(bn, config.columns)

    def some(first: int, last: int) -> None:
        saved = _aligned(tiles * config.rows * config.columns, sums)
        function(*arguments, _pointer(saved), first, last, *sizes)

    _threads.run(some, _balanced(plan, cells))
    if into is not out:
        with np.errstate(all="ignore"):
            np.copyto(out, into, casting="unsafe")


def _used(plan: Plan) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which blocks of A (mb, kb) and of B (kb, nb) take part in a kept product."""
    mb, kb, nb = plan.grid
    used_a, used_b = np.zeros((mb, kb), dtype=bool), np.zeros((kb, nb), dtype=bool)
    every_j = np.arange(nb)
    for i in range(mb):
        ends = plan.offsets[i * nb : (i + 1) * nb + 1]
        ks = plan.ks[ends[0] : ends[-1]]
        used_a[i, ks] = True
        used_b[ks, np.repeat(every_j, np.diff(ends))] = True
    return used_a, used_b


def _pack(
    kernel: dict[str, Any],
    name: str,
    panel: int,
    operand: Array,
    used: npt.NDArray[np.bool_],
    block: tuple[int, int],
    sums: np.dtype[Any],
) -> tuple[Array, npt.NDArray[np.int64]]:
    """The used blocks in panels, and the place of each among them.

    `operand` is (m x k) for A and, transposed, (n x k) for B; `used` and `block` likewise.
    """
    operand, stride, in_rows = _layout(operand)
    # the names speak of the matrix as it is multiplied, and B comes here transposed
    suffix = "rows" if in_rows == (name == "pack_a") else "columns"
    function = kernel[f"{name}_{suffix}"]
    blocks_p, blocks_k = (np.ascontiguousarray(each) for each in np.nonzero(used))
    slots = np.zeros(used.shape, dtype=np.int64)
    slots[blocks_p, blocks_k] = np.arange(blocks_p.size)
    elements = grid_of(block[0], panel) * panel * block[1]
    packed = _aligned(blocks_p.size * elements, sums)
    arguments = [_pointer(each) for each in (operand, packed, blocks_p, blocks_k)]
    sizes = (stride, *operand.shape, *block)

    def some(first: int, last: int) -> None:
        function(*arguments, first, last, *sizes)

    _threads.run(some, _even(blocks_p.size, packed.size))
    return packed, slots


def _even(pieces: int, elements: int) -> list[int]:
    """Bounds that cut pieces of equal work into chunks."""
    chunks = min(pieces, _threads.count() * _threads.CHUNKS) if elements > _WORTH_THREADS else 1
    return [pieces * chunk // max(chunks, 1) for chunk in range(chunks + 1)]


def _order(plan: Plan) -> npt.NDArray[np.int64]:
    """C's blocks in the order they are computed: down a few rows of blocks, then to the right.

    A column of B's blocks, once fetched, serves several blocks of C before the next is needed.
    """
    mb, _, nb = plan.grid
    cells = np.arange(mb * nb).reshape(mb, nb)
    strips = [cells[i : i + ROWS_TOGETHER].T.ravel() for i in range(0, mb, ROWS_TOGETHER)]
    return np.concatenate([cells[:0].ravel(), *strips])


def _balanced(plan: Plan, cells: npt.NDArray[np.int64]) -> list[int]:
    """Bounds that cut C's blocks, in the order of `cells`, into chunks of about equal work."""
    bm, bk, bn = plan.block
    chunks = _threads.count() * _threads.CHUNKS
    if plan.blocks_valid * bm * bk * bn < _WORTH_THREADS:
        chunks = 1
    work = np.concatenate([[0.0], np.cumsum(np.diff(plan.offsets)[cells] + _STORE)])
    inner = np.searchsorted(work, work[-1] * np.arange(1, chunks) / chunks)
    return [0, *inner.tolist(), cells.size]


def _layout(array: Array) -> tuple[Array, int, bool]:
    """The array or a copy, the stride in elements between its contiguous lines, and whether
    those lines are its rows; else they are its columns."""
    if array.flags.aligned and array.dtype.isnative:
        for axis in (0, 1):
            stride = _stride(array, axis)
            if stride is not None:
                return array, stride, axis == 0
    copy = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return copy, copy.shape[1], True


def _stride(array: Array, axis: int) -> int | None:
    """Elements between lines along that axis; None where the lines are not contiguous."""
    size = array.dtype.itemsize
    across = 1 - axis
    if array.shape[across] > 1 and array.strides[across] != size:
        return None
    return None if array.strides[axis] % size else array.strides[axis] // size


def _aligned(elements: int, dtype: np.dtype[Any]) -> Array:
    """An uninitialised vector that begins where a cache line does."""
    raw = np.empty(elements * dtype.itemsize + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + elements * dtype.itemsize].view(dtype)


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
