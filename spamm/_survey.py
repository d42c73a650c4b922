"""What each tau would keep and what it would cost, without building a plan for any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spamm._norms import Norms
from spamm._plan import Sizes, checked_tau, grid
from spamm._products import SkippedErrors, parts

MOST_POINTS = 200
# the share of products, of those that are not zero, that the last of a survey's own taus keeps
_LEAST_RATIO = 0.01
# so many products give their quantiles to a tenth of a percent; fewer are all looked at
_SAMPLE = 1 << 21


class SurveyRow(NamedTuple):
    """What one tau does: shares are of one; the bound is as a plan's, on ||C - C~||_F."""

    tau: float
    valid_ratio: float
    flops_saved: float
    error_bound: float


@dataclass(frozen=True)
class Survey:
    """A product's block products as a function of tau.

    Attributes
    ----------
    shape, block
        (m, k, n) and (bm, bk, bn).
    rows
        By ascending tau.
    """

    shape: Sizes
    block: Sizes
    rows: tuple[SurveyRow, ...]


def survey(
    norms_a: Norms,
    norms_b: Norms,
    shape: Sizes,
    block: Sizes,
    *,
    taus: Sequence[float] | None = None,
    points: int = 12,
) -> Survey:
    """Valid ratio, saved operations and error bound at several tau.

    Each row says what a plan with its tau would say: the bound is that of arXiv 2005.10680.
    Takes a few passes over all products of norms for every tau, and memory for as many sums as C
    has blocks.

    Parameters
    ----------
    norms_a, norms_b
        Norms of the blocks, (mb, kb) and (kb, nb).
    taus
        Finite, at least 0, in any order.
    points
        How many taus to choose where none are given, from 2 to `MOST_POINTS`: 0, and such as keep
        from nearly all to a hundredth of the products that are not zero. Fewer come back where
        products are equal.

    Raises
    ------
    ValueError
        The norms are not of this grid, a tau is negative or not finite, or `points` is out of
        its range.
    """
    mb, kb, nb = grid(shape, block)
    if norms_a.shape != (mb, kb) or norms_b.shape != (kb, nb):
        raise ValueError(
            f"norms_a, norms_b: expected shapes {(mb, kb)} and {(kb, nb)} for shape {shape} and"
            f" block {block}, got {norms_a.shape} and {norms_b.shape}"
        )
    if taus is None:
        taus = _spread_taus(norms_a, norms_b, points)
    chosen = sorted({checked_tau(tau) for tau in taus})
    counters = [_Counter(norms_a, norms_b, shape, block, tau) for tau in chosen]
    for part in parts(norms_a, norms_b):
        whole = part.values.copy()
        for counter in counters:
            part.values[...] = whole
            counter.add(part)
    return Survey(shape, block, tuple(counter.row() for counter in counters))


class _Counter:
    """Counts for one tau what is kept, and sums what is skipped."""

    def __init__(
        self, norms_a: Norms, norms_b: Norms, shape: Sizes, block: Sizes, tau: float
    ) -> None:
        self._tau, self._shape, self._block = tau, shape, block
        self._grid = grid(shape, block)
        self._errors = SkippedErrors(norms_a, norms_b)
        m, _, n = shape
        mb, _, nb = self._grid
        self._heights = np.minimum(block[0], m - block[0] * np.arange(mb))
        self._widths = np.minimum(block[2], n - block[2] * np.arange(nb))
        self._kept = 0
        self._volume = 0

    def add(self, part: Any) -> None:
        """Takes a part of the products in; overwrites its values."""
        _, kb, _ = self._grid
        keep = ~(part.values < self._tau)
        counts = np.count_nonzero(keep, axis=-1)
        self._kept += int(counts.sum())
        missing = kb * self._block[1] - self._shape[1]
        depths = counts * self._block[1] - keep[..., -1] * missing
        self._volume += int(self._heights[part.rows] @ depths @ self._widths[part.columns])
        self._errors.add(part, keep)

    def row(self) -> SurveyRow:
        """What was counted."""
        (m, k, n), (mb, kb, nb) = self._shape, self._grid
        total, volume = mb * kb * nb, m * k * n
        return SurveyRow(
            self._tau,
            self._kept / total if total else 1.0,
            1.0 - self._volume / volume if volume else 0.0,
            self._errors.bound(),
        )


def _spread_taus(norms_a: Norms, norms_b: Norms, points: int) -> list[float]:
    if not 2 <= points <= MOST_POINTS:
        raise ValueError(f"points: expected 2 to {MOST_POINTS}, got {points}")
    products = _some_products(norms_a, norms_b)
    positive = np.sort(products[(products > 0.0) & np.isfinite(products)])
    if not positive.size:
        return [0.0]
    if positive.size == products.size:
        # a tau that skips nothing is there already: 0
        ratios = np.geomspace(1.0, _LEAST_RATIO, points)[1:]
    else:
        ratios = np.geomspace(1.0, _LEAST_RATIO, points - 1)
    skipped = np.rint((1.0 - ratios) * positive.size).astype(np.int64)
    return [0.0, *positive[np.minimum(skipped, positive.size - 1)].tolist()]


def _some_products(norms_a: Norms, norms_b: Norms) -> NDArray[np.float64]:
    (mb, kb), nb = norms_a.shape, norms_b.shape[1]
    total = mb * kb * nb
    if total <= _SAMPLE:
        found = [part.values.ravel() for part in map(_copied, parts(norms_a, norms_b))]
        return np.concatenate([np.empty(0), *found])
    drawn = np.random.default_rng(0).integers(total, size=_SAMPLE)
    i, k, j = np.unravel_index(drawn, (mb, kb, nb))
    with np.errstate(all="ignore"):
        return np.multiply(norms_a[i, k], norms_b[k, j], dtype=np.float64)


def _copied(part: Any) -> Any:
    return part._replace(values=part.values.copy())
