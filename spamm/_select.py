"""From what is wanted to tau: the largest tau that skips no more than it may.

Both criteria, a number of products and a bound on the error, grow with tau in steps at the values
of the products. The step is bracketed by passes over all products, from a guess that a sample of
rows gives; the few products inside of the bracket are then sorted and the step found exactly.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from spamm._norms import Norms
from spamm._products import SkippedErrors, parts

# As near as a valid ratio must be met
_RATIO_TOLERANCE = 0.01
# So many products are sorted at once, and as many are enough for a first guess
_FEW = 1 << 16
# As many values alone, which need not be sorted
_FEW_VALUES = 1 << 20
# Most that are gathered: 12 bytes each, well below 64 MiB
_MOST = 1 << 22
_GUESS_STEP = 1.01
_SAMPLE_ROWS = 8


class Crossing(NamedTuple):
    """The largest tau that fits, and how many products it and the next larger one skip."""

    tau: float
    skipped: int
    skipped_next: int


class _Criterion(Protocol):
    """What tau is held to.

    `adds_errors` says that it asks for sums of errors, not counts alone; `few` is how many products
    in the bracket are few enough to be gathered.
    """

    adds_errors: bool

    @property
    def few(self) -> int: ...

    def fits(self, skipped: int, sums: npt.NDArray[np.float64]) -> bool: ...

    def for_rows(self, norms_a: Norms, share: float) -> _Criterion: ...


class _SkipAtMost:
    adds_errors = False

    def __init__(self, most: float) -> None:
        self.most = most

    @property
    def few(self) -> int:
        return _FEW_VALUES

    def fits(self, skipped: int, sums: npt.NDArray[np.float64]) -> bool:
        return skipped <= self.most

    def for_rows(self, norms_a: Norms, share: float) -> _SkipAtMost:
        return _SkipAtMost(self.most * share)


class _ErrorAtMost:
    adds_errors = True

    def __init__(self, norms_a: Norms, norms_b: Norms, bound: float) -> None:
        self._norms_b, self._bound = norms_b, bound
        self._errors = SkippedErrors(norms_a, norms_b)

    @property
    def few(self) -> int:
        return _FEW

    def fits(self, skipped: int, sums: npt.NDArray[np.float64]) -> bool:
        # the plan may add up in another order
        return self._errors.bound_of(sums) * (1 + self._errors.slack) <= self._bound

    def for_rows(self, norms_a: Norms, share: float) -> _ErrorAtMost:
        # squares of errors add up over rows
        return _ErrorAtMost(norms_a, self._norms_b, self._bound * math.sqrt(share))


def tau_for_bound(norms_a: Norms, norms_b: Norms, bound: float) -> float:
    """The largest tau whose plan has an error bound of at most `bound`.

    Parameters
    ----------
    norms_a, norms_b
        Norms of the blocks, (mb, kb) and (kb, nb).
    bound
        Bound on ||C - C~||_F, at least 0 (infinity: everything finite may be skipped).
    """
    if not bound >= 0:
        raise ValueError(f"bound: expected a number of at least 0, got {bound!r}")
    if not norms_a.size or not norms_b.size:
        return 0.0
    a, b = _wide(norms_a, norms_b)
    return _largest_tau(a, b, _ErrorAtMost(a, b, bound)).tau


def tau_for_valid_ratio(norms_a: Norms, norms_b: Norms, ratio: float) -> float:
    """The tau whose share of kept products is nearest to `ratio`, and within 0.01 of it.

    Parameters
    ----------
    norms_a, norms_b
        Norms of the blocks, (mb, kb) and (kb, nb).
    ratio
        Above 0; 1 keeps everything.

    Raises
    ------
    ValueError
        The ratio is not in (0, 1], or cannot be met because too many products are equal (or may
        not be skipped): the message says which ratios are the neighbours.
    """
    ratio = checked_ratio(ratio)
    total = norms_a.shape[0] * norms_a.shape[1] * norms_b.shape[1]
    if ratio == 1 or total == 0:
        return 0.0
    crossing = _largest_tau(*_wide(norms_a, norms_b), _SkipAtMost(total * (1 - ratio)))
    more, fewer = total - crossing.skipped, total - crossing.skipped_next
    takes_more = nearer_is_more(ratio, more, fewer, total)
    return crossing.tau if takes_more else float(np.nextafter(crossing.tau, np.inf))


def nearer_is_more(ratio: float, kept_more: int, kept_fewer: int, total: int) -> bool:
    """Which of two neighbouring taus meets a valid ratio: whether it is the one that keeps more.

    Parameters
    ----------
    ratio
        In (0, 1].
    kept_more, kept_fewer, total
        Products that the two keep, and all.

    Raises
    ------
    ValueError
        Neither is within 0.01 of it.
    """
    more, fewer = kept_more / total, kept_fewer / total
    takes_more = more - ratio <= ratio - fewer or fewer == more
    nearest = more if takes_more else fewer
    # counts are whole: half a product off is as near as any tau gets
    if abs(nearest - ratio) > max(_RATIO_TOLERANCE, 0.5 / total * (1 + 1e-9)):
        raise ValueError(_cannot_meet(ratio, more, fewer))
    return takes_more


def checked_ratio(ratio: Any) -> float:
    """A valid ratio as a float; ValueError unless it is above 0 and at most 1."""
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value <= 1:
        raise ValueError(f"valid_ratio: expected a number above 0 and at most 1, got {ratio!r}")
    return value


def _cannot_meet(ratio: float, more: float, fewer: float) -> str:
    if more == fewer:
        why = f"{more:.4g} of the block products have no finite norm and are never skipped"
    else:
        why = (
            "equal norms are kept or skipped together, the nearest ratios are"
            f" {fewer:.4g} and {more:.4g}"
        )
    return f"valid_ratio: {ratio:g} cannot be met within {_RATIO_TOLERANCE:g}: {why}"


def _wide(norms_a: Norms, norms_b: Norms) -> tuple[Norms, Norms]:
    """Rows to take a sample of: both criteria are the same for the transposed product."""
    if norms_a.shape[0] >= norms_b.shape[1]:
        return norms_a, norms_b
    return norms_b.T, norms_a.T


def _largest_tau(norms_a: Norms, norms_b: Norms, criterion: _Criterion) -> Crossing:
    search = _Search(norms_a, norms_b, criterion)
    high = float(np.nextafter(_largest_product(norms_a, norms_b), np.inf))
    above = search.skipped_if_fits(high)
    if above is not None:
        return Crossing(high, above, above)
    search.high = high
    if search.active > search.few:
        guess = _guess(norms_a, norms_b, criterion)
        if guess is not None:
            search.around(guess)
    while search.active > search.few and (middle := search.middle()) is not None:
        search.skipped_if_fits(middle)
    return search.finish()


def _guess(norms_a: Norms, norms_b: Norms, criterion: _Criterion) -> float | None:
    mb, kb = norms_a.shape
    rows = max(_SAMPLE_ROWS, -(-_FEW // max(1, kb * norms_b.shape[1])))
    if rows * 4 > mb:
        return None
    sample = norms_a[np.linspace(0, mb - 1, rows + 2).astype(np.int64)[1:-1]]
    return _largest_tau(sample, norms_b, criterion.for_rows(sample, rows / mb)).tau


class _Search:
    """A bracket [low, high): low fits, high does not. `active` products lie in it."""

    def __init__(self, norms_a: Norms, norms_b: Norms, criterion: _Criterion) -> None:
        self._a, self._b, self._criterion = norms_a, norms_b, criterion
        self.low, self.high = 0.0, 0.0
        self._below_low = 0
        self._below_high = total = norms_a.size * norms_b.shape[1]
        self.few = min(_MOST, max(criterion.few, total // 32))

    @property
    def active(self) -> int:
        return self._below_high - self._below_low

    def skipped_if_fits(self, tau: float) -> int | None:
        """How many products tau skips, None where these are too many; narrows the bracket."""
        skipped, sums = self._skip(tau)
        if self._criterion.fits(skipped, sums):
            self.low, self._below_low = tau, skipped
            return skipped
        self.high, self._below_high = tau, skipped
        return None

    def around(self, guess: float) -> None:
        """Narrow the bracket from a guess, by steps that grow."""
        step = _GUESS_STEP
        tau = guess
        fitted = None
        while self.low < tau < self.high and self.active > self.few:
            fits = self.skipped_if_fits(tau) is not None
            if fitted is not None and fits != fitted:
                return
            fitted = fits
            tau = tau * step if fits else tau / step
            step *= step

    def middle(self) -> float | None:
        """The number halfway between low and high in the order of floats; None if there is none."""
        low, high = (int(np.float64(end).view(np.int64)) for end in (self.low, self.high))
        return float(np.int64((low + high) // 2).view(np.float64)) if high - low > 1 else None

    def finish(self) -> Crossing:
        if self.middle() is None:
            return Crossing(self.low, self._below_low, self._below_high)
        if isinstance(self._criterion, _SkipAtMost):
            return self._finish_by_rank(math.floor(self._criterion.most) - self._below_low)
        values, weights, cells, sums = self._gather()
        order = np.argsort(values)
        values, weights, cells = values[order], weights[order], cells[order]
        steps = np.append(np.flatnonzero(np.diff(values, prepend=-1.0)), values.size)
        # steps[fit] skips what lies below its value; the first skips nothing more than low does
        fit, over = 0, steps.size - 1
        while over - fit > 1:
            trial = (fit + over) // 2
            more = int(steps[trial])
            extra = np.bincount(cells[:more], weights[:more], minlength=sums.size)
            added: npt.NDArray[Any] = sums + extra.reshape(sums.shape)
            if self._criterion.fits(self._below_low + more, added):
                fit = trial
            else:
                over = trial
        at, after = int(steps[fit]), int(steps[fit + 1])
        return Crossing(float(values[at]), self._below_low + at, self._below_low + after)

    def _finish_by_rank(self, rank: int) -> Crossing:
        """The crossing where so many of the bracket's products may be skipped, but not all."""
        found = []
        for part in parts(self._a, self._b):
            inside = ~(part.values < self.low) & (part.values < self.high)
            found.append(part.values[inside])
        values = np.concatenate(found)
        values.partition(rank)
        tau = values[rank]
        # those of the same value are skipped together
        at = int(np.count_nonzero(values[:rank] < tau))
        after = rank + int(np.count_nonzero(values[rank:] <= tau))
        return Crossing(float(tau), self._below_low + at, self._below_low + after)

    def _skip(self, tau: float) -> tuple[int, npt.NDArray[np.float64]]:
        errors = SkippedErrors(self._a, self._b)
        skipped = 0
        for part in parts(self._a, self._b):
            below = part.values < tau
            skipped += int(np.count_nonzero(below))
            if self._criterion.adds_errors:
                errors.add(part, ~below)
        return skipped, errors.sums

    def _gather(self) -> tuple[npt.NDArray[Any], ...]:
        """Products in the bracket, what they add to the error, their cells, errors below low."""
        errors = SkippedErrors(self._a, self._b)
        nb, kb = self._b.shape[1], self._a.shape[1]
        values, weights, cells = [], [], []
        for part in parts(self._a, self._b):
            keep = ~(part.values < self.low)
            inside = np.flatnonzero(keep & (part.values < self.high))
            values.append(part.values.ravel()[inside])
            weights.append(errors.rounded_up(part).ravel()[inside])
            cells.append(inside // kb + (part.rows.start * nb + part.columns.start))
            errors.add(part, keep)
        found = (np.concatenate(each) for each in (values, weights, cells))
        return (*found, errors.sums)


def _largest_product(norms_a: Norms, norms_b: Norms) -> float:
    """The largest finite product: rounding is monotone, so it is one of largest norms of some k."""
    largest_a = norms_a.max(axis=0, where=np.isfinite(norms_a), initial=0.0)
    largest_b = norms_b.max(axis=1, where=np.isfinite(norms_b), initial=0.0)
    with np.errstate(over="ignore"):
        product = float((largest_a.astype(np.float64) * largest_b).max(initial=0.0))
    return min(product, float(np.nextafter(np.finfo(np.float64).max, 0)))
