"""What of a product is computed: for each block of C, the k-blocks that are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._arrays import checked_matrices
from spamm._norms import Norms, grid_of
from spamm._plan_file import read_plans, write_plans
from spamm._products import SkippedErrors, kept_by_lists, parts

Sizes = tuple[int, int, int]

# Lists of kept products stay in use while new ones would save no more than this
REUSE = 1.1


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

    def refresh(self, a: Any, b: Any, *, backend: str = "auto") -> Plan:
        """The plan for new values of the same shape, at the same tau.

        Where the values have changed little, as from one iteration of a self-consistent field to
        the next, the block lists stay: ``new.ks is old.ks`` and ``new.reused`` is true, so that
        what was made of them (copies on a device, a partition) stays good. They stay while they
        keep at most 10 % more products than new lists at this tau would, and their error bound
        is at most 10 % above that of new lists; drift over many calls cannot add up, as both are
        compared with new lists, not with the last ones. `error_bound` is computed for the lists
        that the plan has and the new values: it is as rigorous as a new plan's.

        tau stays even if it came from a valid ratio or a relative error, which then hold only as
        nearly as the values have stayed: look at `valid_ratio` and `error_bound`.

        Parameters
        ----------
        a, b
            Matrices (m, k) and (k, n).
        backend
            What computes the norms; see `spamm.matmul`.

        Raises
        ------
        ValueError
            The matrices are of another shape, or not supported.
        RuntimeError
            The backend needs what is not there.
        """
        from spamm import _backends

        device_backend = _backends.for_devices(backend, a, b)
        if device_backend is not None:
            refreshed: Plan = device_backend.refresh(self, a, b)
            return refreshed
        operands = checked_matrices(a, b, self.shape)
        if operands.batch:
            raise ValueError(f"a, b: expected one matrix each, got a batch {operands.batch}")
        (bm, bk, bn), host = self.block, _backends.resolve(backend, self.block, operands.a.dtype)
        norms_a = host.norms(operands.a, bm, bk)
        norms_b = host.norms(operands.b, bk, bn)
        fresh = build_plan(norms_a, norms_b, self.shape, self.block, self.tau)
        if self.blocks_valid > REUSE * fresh.blocks_valid:
            return fresh
        kept = plan_from_lists(
            norms_a, norms_b, self.shape, self.block, self.tau, self.offsets, self.ks
        )
        if kept.error_bound > REUSE * fresh.error_bound:
            return fresh
        return replace(kept, reused=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a NumPy archive (.npz) without pickle; the name is not changed."""
        write_plans(path, [self], self.shape, self.block, None)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is damaged, is no plan, or is a plan of a batch: one line that names it.
        OSError
            It cannot be opened.
        """
        plans, _, _, batch = read_plans(path)
        if batch is not None:
            raise ValueError(f"{os.fspath(path)}: it holds plans of a batch {batch}, not of one")
        return plans[0]


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


def plan_from_lists(
    norms_a: Norms,
    norms_b: Norms,
    shape: Sizes,
    block: Sizes,
    tau: float,
    offsets: npt.NDArray[np.int64],
    ks: npt.NDArray[np.int32],
) -> Plan:
    """A plan with these lists of kept products, which need not be what tau keeps, and its bound.

    The arguments are those of `build_plan` and of `Plan`; the lists are taken as they are.
    """
    norms_a, norms_b = _checked_norms(norms_a, "norms_a"), _checked_norms(norms_b, "norms_b")
    errors = SkippedErrors(norms_a, norms_b)
    for part in parts(norms_a, norms_b):
        errors.add(part, kept_by_lists(part, offsets, ks, norms_b.shape[1]))
    tau = checked_tau(tau)
    return Plan(shape, block, tau, offsets, ks, errors.bound(), norms_a, norms_b)


def checked_tau(tau: Any) -> float:
    """tau as a float; ValueError unless it is a finite number of at least 0."""
    try:
        # True is a slip, not a threshold
        value = float("nan") if isinstance(tau, bool) else float(tau)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ValueError(f"tau: expected a finite number of at least 0, got {tau!r}")
    return value


def _checked_norms(norms: Any, name: str) -> Norms:
    values = np.asarray(norms)
    if values.dtype not in (np.float32, np.float64) or values.ndim != 2:
        raise ValueError(f"{name}: expected a float32 or float64 matrix of norms")
    if not (values >= 0).all():
        raise ValueError(f"{name}: expected norms of at least 0, without NaN")
    return values
