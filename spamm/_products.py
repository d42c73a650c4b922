"""Sweeps over all products of block norms, a cache-sized part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spamm._norms import NORM_ERROR, Norms

# 1 MiB of float64: the passes over a part find it in a core's cache
_PART = 1 << 17
# Below this a product of two normal numbers may have lost digits
_UNDERFLOW = 2.0**-960
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)


class Part(NamedTuple):
    """Products ||A_ik|| ||B_kj|| of some cells (i, j) of C's grid: all k of each.

    `values` has shape (rows, columns, kb) and is overwritten by the next part.
    """

    rows: slice
    columns: slice
    values: npt.NDArray[np.float64]


def parts(norms_a: Norms, norms_b: Norms) -> Iterator[Part]:
    """All products, in the order of C's cells (row by row); NaN where 0 meets infinity."""
    a = np.asarray(norms_a, dtype=np.float64)
    b = np.ascontiguousarray(np.asarray(norms_b, dtype=np.float64).T)
    (mb, kb), nb = a.shape, b.shape[0]
    if not (mb and kb and nb):
        return
    columns = min(nb, max(1, _PART // kb))
    rows = max(1, _PART // (columns * kb)) if columns == nb else 1
    buffer = np.empty((rows, columns, kb))
    for i in range(0, mb, rows):
        for j in range(0, nb, columns):
            part = Part(slice(i, min(i + rows, mb)), slice(j, min(j + columns, nb)), buffer)
            values = buffer[: part.rows.stop - i, : part.columns.stop - j]
            with np.errstate(all="ignore"):
                np.multiply(a[part.rows, None, :], b[part.columns], out=values)
            yield part._replace(values=values)


def kept_by_lists(
    part: Part, offsets: npt.NDArray[np.int64], ks: npt.NDArray[np.int32], nb: int
) -> npt.NDArray[np.bool_]:
    """Which products of a part a plan's lists keep."""
    keep = np.zeros_like(part.values, dtype=np.bool_)
    kb = keep.shape[-1]
    # parts are runs of cells: whole rows of them, or a piece of one row
    first = part.rows.start * nb + part.columns.start
    bounds = offsets[first : first + keep.shape[0] * keep.shape[1] + 1]
    cells = np.repeat(np.arange(bounds.size - 1), np.diff(bounds))
    keep.reshape(-1)[cells * kb + ks[bounds[0] : bounds[-1]]] = True
    return keep


class SkippedErrors:
    """Adds up what skipped products can contribute to each block of C: E of arXiv 2005.10680.

    E_ij = sum of skipped ||A_ik|| ||B_kj|| bounds ||C_ij - C~_ij||_F, so ||E||_F bounds the error.
    """

    def __init__(self, norms_a: Norms, norms_b: Norms) -> None:
        self._a, self._b = norms_a, norms_b
        self._tiny = _smallest_positive(norms_a) * _smallest_positive(norms_b) < _UNDERFLOW
        self._kb = norms_a.shape[1]
        self._norm_error = NORM_ERROR[norms_a.dtype] + NORM_ERROR[norms_b.dtype]
        self.sums = np.zeros((norms_a.shape[0], norms_b.shape[1]))

    def add(self, part: Part, keep: npt.NDArray[np.bool_]) -> None:
        """Sum over k the part's products that are not kept. May overwrite the part's values."""
        with np.errstate(all="ignore"):
            values = self.rounded_up(part)
            np.copyto(values, 0.0, where=keep)
            values.sum(axis=-1, out=self.sums[part.rows, part.columns])

    def rounded_up(self, part: Part) -> npt.NDArray[np.float64]:
        """The part's products, in a copy where some have lost digits to underflow."""
        if not self._tiny:
            return part.values
        a, b = self._a[part.rows, None, :], self._b.T[part.columns]
        values = part.values.copy()
        small = (values < _UNDERFLOW) & (a > 0) & (b > 0)
        values[small] = values[small] * 2 + 2 * _SMALLEST
        return values

    def bound(self) -> float:
        """||E||_F, rounded so that it is a bound in exact arithmetic; inf where it overflows."""
        return self.bound_of(self.sums)

    def bound_of(self, sums: npt.NDArray[np.float64]) -> float:
        """The same for other sums of this problem's products."""
        largest = float(sums.max(initial=0.0))
        if largest == 0.0:
            return 0.0
        if not np.isfinite(largest):
            return float("inf")
        with np.errstate(all="ignore"):
            norm = largest * float(np.sqrt(np.square(sums / largest).sum()))
            return float(np.nextafter(norm * (1.0 + self.slack), np.inf))

    @property
    def slack(self) -> float:
        """Relative error of ||E||_F: of the norms, the products, and sums in any order."""
        return 2 * self._norm_error + (self._kb + 64) * 2.0**-52


def _smallest_positive(norms: npt.NDArray[Any]) -> float:
    return float(np.min(norms, where=norms > 0, initial=1.0))
