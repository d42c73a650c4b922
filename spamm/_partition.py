"""C's rows of blocks split over devices by the products that are kept, not by rows.

Whole rows cannot always balance: of 128 rows over 16 devices, some device has at least 8, and where
rows at the edges hold less work than those inside, the mean is below the work of 8. Ranges then
begin and end inside a row, and only the work of a block of C is left as imbalance. A partition is
data: it copies nothing and knows of no device but its number.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from spamm._plan import Plan

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Range = tuple[int, int]


class Bytes(NamedTuple):
    """Bytes of each matrix that a device reads (A, B) or writes (C)."""

    a: int
    b: int
    c: int


@dataclass(frozen=True, eq=False)
class Piece:
    """A rectangle of C's blocks that one device computes by one multiplication.

    Attributes
    ----------
    rows, columns
        Half-open ranges of C's rows and columns of blocks. Either all columns, or one row.
    plan
        Of ``a[row_slice]`` times ``b[:, column_slice]``, into ``c[row_slice, column_slice]``. Its
        lists are views of the whole plan's, and its error bound is the whole plan's, which holds
        for each part.
    """

    rows: Range
    columns: Range
    plan: Plan

    @property
    def row_slice(self) -> slice:
        """The elements of A's and C's rows."""
        start = self.rows[0] * self.plan.block[0]
        return slice(start, start + self.plan.shape[0])

    @property
    def column_slice(self) -> slice:
        """The elements of B's and C's columns."""
        start = self.columns[0] * self.plan.block[2]
        return slice(start, start + self.plan.shape[2])


@dataclass(frozen=True, eq=False)
class Share:
    """What one device computes, and what it must hold for that.

    Attributes
    ----------
    whole
        The plan that was partitioned.
    pieces
        In the order of C's rows of blocks: at most the end of a row, whole rows, the beginning of
        a row. None where there are more devices than blocks of C.
    work
        Products kept.
    """

    whole: Plan
    pieces: tuple[Piece, ...]
    work: int

    @cached_property
    def needed_a(self) -> BoolArray:
        """The blocks of A that it reads, shape (mb, kb)."""
        mb, kb, _ = self.whole.grid
        needed = np.zeros((mb, kb), dtype=np.bool_)
        for row, ks, _ in self._rows():
            needed[row, ks] = True
        return needed

    @cached_property
    def needed_b(self) -> BoolArray:
        """The blocks of B that it reads, shape (kb, nb)."""
        _, kb, nb = self.whole.grid
        needed = np.zeros((kb, nb), dtype=np.bool_)
        for _, ks, columns in self._rows():
            needed[ks, columns] = True
        return needed

    @property
    def rows_of_b(self) -> Range:
        """The smallest range of B's rows of blocks with all that it reads: one contiguous copy."""
        found = np.flatnonzero(self.needed_b.any(axis=1))
        return (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)

    def bytes_moved(self, itemsize: int, out_itemsize: int | None = None) -> Bytes:
        """Bytes of the blocks of A and B that it reads and of C that it writes, each counted once.

        Parameters
        ----------
        itemsize, out_itemsize
            Bytes of an element of A and B, and of C; C's as A's by default.
        """
        heights, depths, widths = (
            np.minimum(each, size - each * np.arange(count, dtype=np.int64))
            for size, each, count in zip(
                self.whole.shape, self.whole.block, self.whole.grid, strict=True
            )
        )
        written = sum(p.plan.shape[0] * p.plan.shape[2] for p in self.pieces)
        return Bytes(
            int(heights @ self.needed_a @ depths) * itemsize,
            int(depths @ self.needed_b @ widths) * itemsize,
            written * (itemsize if out_itemsize is None else out_itemsize),
        )

    def _rows(self) -> Iterator[tuple[int, NDArray[np.int32], IntArray]]:
        """Of each row of blocks: its index, and k and column of each of its kept products."""
        for piece in self.pieces:
            columns = np.arange(*piece.columns)
            offsets, ks = piece.plan.offsets, piece.plan.ks
            for i, row in enumerate(range(*piece.rows)):
                bounds = offsets[i * columns.size : (i + 1) * columns.size + 1]
                yield row, ks[bounds[0] : bounds[-1]], np.repeat(columns, np.diff(bounds))


@dataclass(frozen=True, eq=False)
class Partition:
    """A plan's blocks of C, each given to one device.

    Attributes
    ----------
    shares
        One a device, in the order of C's rows of blocks.
    work
        Products kept of each device, int64 of shape (devices,).
    rows_imbalance
        The least imbalance that whole rows of blocks allow.
    splits_rows
        Whether rows of blocks were cut because of that.
    """

    shares: tuple[Share, ...]
    work: IntArray
    rows_imbalance: float
    splits_rows: bool

    @property
    def imbalance(self) -> float:
        """The largest work over the mean, less one; 0 where nothing is kept."""
        return imbalance(self.work)

    @property
    def readers_of_b(self) -> IntArray:
        """How many devices read each block of B, shape (kb, nb): whether a broadcast pays."""
        return np.sum([share.needed_b for share in self.shares], axis=0, dtype=np.int64)


def partition(plan: Plan, devices: int, *, tolerance: float = 0.02) -> Partition:
    """Splits C over devices into contiguous ranges whose largest work is the least possible.

    Ranges are of whole rows of blocks where these balance within `tolerance`, otherwise of blocks
    of C in the order of its rows.

    Parameters
    ----------
    plan
        A plan of one product; the products of a batch are partitioned one by one.
    devices
        At least 1.
    tolerance
        Imbalance, as a share, that is accepted for the sake of whole rows.

    Raises
    ------
    TypeError
        `devices` is no integer.
    ValueError
        `devices` is less than 1, or `tolerance` is negative or no number.
    """
    try:
        devices = operator.index(devices)
    except TypeError:
        raise TypeError(f"devices: expected an integer, got {devices!r}") from None
    if devices < 1:
        raise ValueError(f"devices: expected at least 1, got {devices}")
    if not tolerance >= 0.0:
        raise ValueError(f"tolerance: expected a number of at least 0, got {tolerance}")
    nb = plan.grid[2]
    rows = plan.work_per_row()
    cuts = split_evenly(rows, devices)
    of_rows = imbalance(_loads(rows, cuts))
    cuts = cuts * nb
    splits_rows = of_rows > tolerance
    if splits_rows:
        cuts = split_evenly(np.diff(plan.offsets), devices)
    shares = tuple(
        Share(plan, tuple(_pieces(plan, int(first), int(end))), int(work))
        for first, end, work in zip(cuts[:-1], cuts[1:], np.diff(plan.offsets[cuts]), strict=True)
    )
    return Partition(shares, np.diff(plan.offsets[cuts]), of_rows, splits_rows)


def imbalance(work: IntArray) -> float:
    """The largest of these over their mean, less one; 0 where all are 0."""
    total = int(work.sum())
    return int(work.max()) * work.size / total - 1.0 if total else 0.0


def split_evenly(work: IntArray, parts: int) -> IntArray:
    """Cuts a sequence into contiguous parts whose largest sum is the least possible.

    Exact, by a parametric search: the least sum is sought by halving, and one is possible if parts
    that each take all they can reach the end. Among the cuts with that sum, those nearest to equal
    parts are taken, which greedy parts would not be.

    Parameters
    ----------
    work
        Integers of 0 or more, shape (length,).
    parts
        At least 1; some are empty if there are more of them than elements.

    Returns
    -------
    int64 array of shape (parts + 1,)
        Part p is ``work[cuts[p]:cuts[p + 1]]``.
    """
    if not work.any():
        work = np.ones_like(work)
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(work, dtype=np.int64)])
    total = int(sums[-1])
    least, enough = max(-(-total // parts), int(work.max(initial=0))), total
    while least < enough:
        middle = (least + enough) // 2
        if _forward(sums, parts, middle)[-1] == work.size:
            enough = middle
        else:
            least = middle + 1
    # the earliest each cut may be, so that the parts after it still suffice
    earliest = np.zeros(parts + 1, np.int64)
    earliest[parts] = work.size
    for part in range(parts - 1, 0, -1):
        earliest[part] = np.searchsorted(sums, sums[earliest[part + 1]] - enough)
    cuts = np.zeros(parts + 1, np.int64)
    cuts[parts] = work.size
    for part in range(1, parts):
        latest = np.searchsorted(sums, sums[cuts[part - 1]] + enough, side="right") - 1
        aim = total * part / parts
        after = int(np.searchsorted(sums, aim))
        nearest = after - (after > 0 and aim - sums[after - 1] < sums[after] - aim)
        cuts[part] = min(max(nearest, earliest[part], cuts[part - 1]), latest)
    return cuts


def _forward(sums: IntArray, parts: int, most: int) -> list[int]:
    """Where parts end that each take all they can of `most`."""
    ends = [0]
    for _ in range(parts):
        ends.append(int(np.searchsorted(sums, sums[ends[-1]] + most, side="right")) - 1)
    return ends


def _loads(work: IntArray, cuts: IntArray) -> IntArray:
    return np.diff(np.concatenate([np.zeros(1, np.int64), np.cumsum(work)])[cuts])


def _pieces(plan: Plan, first: int, end: int) -> Iterator[Piece]:
    """The rectangles of a range of C's blocks in the order of its rows."""
    nb = plan.grid[2]
    while first < end:
        row, column = divmod(first, nb)
        whole_rows = 0 if column else (end - first) // nb
        size = whole_rows * nb if whole_rows else min(nb - column, end - first)
        rows = (row, row + max(whole_rows, 1))
        columns = (0, nb) if whole_rows else (column, column + size)
        yield Piece(rows, columns, _slice(plan, first, first + size, rows, columns))
        first += size


def _slice(plan: Plan, first: int, end: int, rows: Range, columns: Range) -> Plan:
    (m, k, n), (bm, _, bn) = plan.shape, plan.block
    start, stop = plan.offsets[first], plan.offsets[end]
    return replace(
        plan,
        shape=(_length(rows, bm, m), k, _length(columns, bn, n)),
        offsets=plan.offsets[first : end + 1] - start,
        ks=plan.ks[start:stop],
        norms_a=plan.norms_a[slice(*rows)],
        norms_b=plan.norms_b[:, slice(*columns)],
    )


def _length(blocks: Range, size: int, extent: int) -> int:
    return min(blocks[1] * size, extent) - blocks[0] * size
