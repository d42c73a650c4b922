"""What of a product is computed: for each block of C, the k-blocks that are kept."""

from __future__ import annotations

import contextlib
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._norms import Norms, grid_of
from spamm._products import SkippedErrors, parts

Sizes = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Plan:
    """The kept block products of C (m x n) = A (m x k) B (k x n), after SpAMM (arXiv 2103.13042).

    A product (i, k, j) is kept unless ||A_ik||_F ||B_kj||_F < tau. Plans are made by `spamm.plan`
    and `build_plan`, and are not changed afterwards.

    Attributes
    ----------
    shape
        (m, k, n).
    block
        (bm, bk, bn); blocks at the edges may be smaller.
    tau
        The least product of norms that is kept, finite and at least 0.
    offsets, ks
        int64 (mb * nb + 1) and int32: the kept k-blocks of block (i, j) of C are
        ``ks[offsets[c]:offsets[c + 1]]`` with c = i * nb + j, ascending.
    error_bound
        Bound on ||C - C~||_F in exact arithmetic, from the norms of what is skipped
        (arXiv 2005.10680), rounding of the norms and of the bound itself included.
    norms_a, norms_b
        Frobenius norms of the blocks, (mb, kb) and (kb, nb), that the plan was made from.
    reused
        Whether `refresh` kept the block lists of the plan that this one comes from.
    """

    shape: Sizes
    block: Sizes
    tau: float
    offsets: npt.NDArray[np.int64]
    ks: npt.NDArray[np.int32]
    error_bound: float
    norms_a: Norms
    norms_b: Norms
    reused: bool = False

    @property
    def grid(self) -> Sizes:
        """Numbers of blocks (mb, kb, nb)."""
        return grid(self.shape, self.block)

    @property
    def blocks_total(self) -> int:
        """All block products, mb * kb * nb."""
        mb, kb, nb = self.grid
        return mb * kb * nb

    @property
    def blocks_valid(self) -> int:
        """Kept block products."""
        return int(self.offsets[-1])

    @property
    def valid_ratio(self) -> float:
        """Share of block products that is kept; 1.0 where there are none at all."""
        return self.blocks_valid / self.blocks_total if self.blocks_total else 1.0

    @property
    def dense_flops(self) -> int:
        """Floating-point operations of the whole product, 2 m k n."""
        m, k, n = self.shape
        return 2 * m * k * n

    @property
    def flops(self) -> int:
        """Floating-point operations of the kept products, at the blocks' real sizes."""
        (m, k, n), (bm, bk, bn), (mb, kb, nb) = self.shape, self.block, self.grid
        if not self.blocks_valid:
            return 0
        depth = np.diff(self.offsets) * bk
        ends = self.offsets[1:][depth > 0]
        # only the last k-block can be short, and it ends the list that it is in
        depth[depth > 0] -= (self.ks[ends - 1] == kb - 1) * (kb * bk - k)
        heights = np.minimum(bm, m - bm * np.arange(mb))
        widths = np.minimum(bn, n - bn * np.arange(nb))
        return 2 * int(heights @ (depth.reshape(mb, nb) @ widths))

    def work_per_row(self) -> npt.NDArray[np.int64]:
        """Kept products of each row of C's blocks, shape (mb,)."""
        mb, _, nb = self.grid
        counts: npt.NDArray[np.int64] = np.diff(self.offsets).reshape(mb, nb).sum(axis=1)
        return counts


def grid(shape: Sizes, block: Sizes) -> Sizes:
    """Numbers of blocks (mb, kb, nb) that cover (m, k, n)."""
    mb, kb, nb = (grid_of(size, each) for size, each in zip(shape, block, strict=True))
    return mb, kb, nb


def build_plan(norms_a: Norms, norms_b: Norms, shape: Sizes, block: Sizes, tau: float) -> Plan:
    """The plan that keeps every product of norms that is not below tau.

    Parameters
    ----------
    norms_a, norms_b
        Norms of the blocks, (mb, kb) and (kb, nb), float64 or float32, as accurate as
        `spamm._norms.NORM_ERROR` says; +inf for blocks that must not be skipped.
    shape, block
        (m, k, n) and (bm, bk, bn).
    tau
        Finite, at least 0.

    Raises
    ------
    ValueError
        The norms are not of this grid, or tau is negative, infinite or NaN.
    """
    mb, kb, nb = grid(shape, block)
    norms_a, norms_b = _checked_norms(norms_a, "norms_a"), _checked_norms(norms_b, "norms_b")
    if norms_a.shape != (mb, kb) or norms_b.shape != (kb, nb):
        raise ValueError(
            f"norms_a, norms_b: expected shapes {(mb, kb)} and {(kb, nb)} for shape {shape} and"
            f" block {block}, got {norms_a.shape} and {norms_b.shape}"
        )
    tau = checked_tau(tau)
    counts = np.zeros((mb, nb), dtype=np.int64)
    lists = [np.empty(0, dtype=np.int32)]
    errors = SkippedErrors(norms_a, norms_b)
    every_k = np.arange(kb, dtype=np.int32)
    for part in parts(norms_a, norms_b):
        keep = ~(part.values < tau)
        counts[part.rows, part.columns] = np.count_nonzero(keep, axis=-1)
        lists.append(np.broadcast_to(every_k, keep.shape)[keep])
        errors.add(part, keep)
    offsets = np.zeros(mb * nb + 1, dtype=np.int64)
    np.cumsum(counts.ravel(), out=offsets[1:])
    ks = np.concatenate(lists)
    return Plan(shape, block, tau, offsets, ks, errors.bound(), norms_a, norms_b)


def checked_tau(tau: Any) -> float:
    """tau as a float; ValueError unless it is a finite number of at least 0."""
    try:
        value = float(tau)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ValueError(f"tau: expected a finite number of at least 0, got {tau!r}")
    return value


def checked_block(block: Any) -> Sizes:
    """Block sizes (bm, bk, bn) from one integer or three; ValueError for anything else."""
    sizes: tuple[int, ...] = ()
    with contextlib.suppress(TypeError, ValueError):
        given = (block,) * 3 if np.ndim(block) == 0 else block
        sizes = tuple(operator.index(size) for size in given)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"block: expected a positive integer or three of them, got {block!r}")
    return sizes[0], sizes[1], sizes[2]


def _checked_norms(norms: Any, name: str) -> Norms:
    values = np.asarray(norms)
    if values.dtype not in (np.float32, np.float64) or values.ndim != 2:
        raise ValueError(f"{name}: expected a float32 or float64 matrix of norms")
    if not (values >= 0).all():
        raise ValueError(f"{name}: expected norms of at least 0, without NaN")
    return values
