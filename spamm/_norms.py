"""Frobenius norms of a matrix's blocks, in float64.

A norm's relative error is at most `NORM_ERROR`, whatever the magnitudes: plans build rigorous
bounds on that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Norms = npt.NDArray[np.floating[Any]]

# Largest relative error of a norm, by the type it is stored in: what a backend's `norms` must
# keep to, and what bounds are inflated by. In single precision that is 8 bits for a device's sums.
NORM_ERROR = {np.dtype(np.float64): 2.0**-40, np.dtype(np.float32): 2.0**-16}

# A strip of so many elements, as float64, stays in a core's cache between conversion and sum.
_STRIP_COLUMNS = 8192
_STRIP_ELEMENTS = 1 << 17
# Sums of squares outside of this have lost digits to underflow, or overflowed.
_SAFE_SQUARES = (2.0**-900, 2.0**1000)
_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)


def grid_of(size: int, block: int) -> int:
    """How many blocks of `block` cover `size`; the last may be smaller."""
    return -(-size // block)


def block_norms(array: Array, rows: int, cols: int) -> npt.NDArray[np.float64]:
    """Frobenius norm of each block of a matrix.

    Parameters
    ----------
    array
        Matrix (m, n) of a float type of at most 64 bits, in any layout.
    rows, cols
        A block's size; blocks at the lower and right edge may be smaller.

    Returns
    -------
    Norms of shape (ceil(m / rows), ceil(n / cols)). A block with a NaN or an infinity has norm
    +inf. Nonzero blocks have norms above zero, however small their values.
    """
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return np.ascontiguousarray(block_norms(array.T, cols, rows).T)
    m, n = array.shape
    norms = np.empty((grid_of(m, rows), grid_of(n, cols)))
    with np.errstate(all="ignore"):
        for i in range(norms.shape[0]):
            strip = array[i * rows : (i + 1) * rows]
            squares = _sums_of_blocks(_column_squares(strip), cols)
            norms[i] = np.sqrt(squares)
            if array.dtype.itemsize == 8:
                _repair(norms[i], squares, strip, cols)
    # a NaN's square is NaN, an infinity's is inf
    norms[~np.isfinite(norms)] = np.inf
    # relative accuracy ends where numbers are denormal: there a norm is rounded up
    norms[(norms > 0) & (norms < _SMALLEST_NORMAL)] += 2 * _SMALLEST
    return norms


def _column_squares(strip: Array) -> npt.NDArray[np.float64]:
    """Sum of squares of each column; partial sums keep rounding far below `NORM_ERROR`."""
    height, width = strip.shape
    sums = np.zeros(width)
    for j in range(0, width, _STRIP_COLUMNS):
        columns = slice(j, min(j + _STRIP_COLUMNS, width))
        step = max(1, _STRIP_ELEMENTS // (columns.stop - j))
        for i in range(0, height, step):
            part = strip[i : i + step, columns].astype(np.float64)
            sums[columns] += np.einsum("ij,ij->j", part, part)
    return sums


def _sums_of_blocks(columns: npt.NDArray[np.float64], cols: int) -> npt.NDArray[np.float64]:
    whole = columns.size // cols
    sums = columns[: whole * cols].reshape(whole, cols).sum(axis=1)
    return sums if whole * cols == columns.size else np.append(sums, columns[whole * cols :].sum())


def _repair(norms: Array, squares: Array, strip: Array, cols: int) -> None:
    """Norms of float64 blocks whose squares under- or overflow, from scaled values."""
    low, high = _SAFE_SQUARES
    doubtful = ~((squares >= low) & (squares <= high))
    if not doubtful.any():
        return
    peaks = np.maximum(strip.max(axis=0), -strip.min(axis=0))
    for b in np.flatnonzero(doubtful):
        peak = peaks[b * cols : (b + 1) * cols].max()
        if peak == 0 or not np.isfinite(peak):
            norms[b] = peak
            continue
        scaled = strip[:, b * cols : (b + 1) * cols] / peak
        norms[b] = peak * np.sqrt(_column_squares(scaled).sum())
