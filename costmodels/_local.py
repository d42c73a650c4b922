"""What one subgraph's own measurements add to the boosters: a Gaussian process on their error.

Trees rank the whole space well and its top badly: there the candidates of one subgraph differ in
ways that few samples of it show and no sibling's do. A Gaussian process over the residuals
(Rasmussen and Williams, 2006, sections 2.2 and 2.7) corrects the boosters near what was measured,
and knows how little it knows elsewhere, so candidates can be chosen by expected improvement (Jones,
Schonlau and Welch, 1998) instead of by their predicted time alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# in units of the mean spread of a feature; found on the recorded tables, where half and twice as
# much did worse
_LENGTH = 0.3
_NOISE = 0.2
_LEAST_VARIANCE = 0.02
_MOST = 256


@dataclass(frozen=True)
class Own:
    """A subgraph's own measurements.

    Attributes
    ----------
    rows
        Shape (n, features).
    log_s
        Shape (n,), log2 of seconds, finite.
    mean
        Shape (n,), what the boosters make of them, log2 of seconds but for a constant.
    """

    rows: npt.NDArray[np.float32]
    log_s: Array
    mean: Array


class Surrogate:
    """The process over a batch of candidates, given a subgraph's own measurements.

    Parameters
    ----------
    own
        What was measured of the subgraph; the latest `_MOST` of it count.
    rows
        Shape (m, features), the candidates.
    mean
        Shape (m,), as ``own.mean``.
    """

    def __init__(self, own: Own, rows: npt.NDArray[np.float32], mean: Array) -> None:
        kept = slice(max(0, len(own.log_s) - _MOST), None)
        self._log_s = own.log_s[kept]
        known, self._rows = _standardised(own.rows[kept], rows)
        offset = float((self._log_s - own.mean[kept]).mean())
        self._residual = self._log_s - own.mean[kept] - offset
        self._mean = mean + offset
        self._amplitude = max(float(self._residual.var()), _LEAST_VARIANCE)
        self._noise = _NOISE * self._amplitude + 1e-6
        self._known = known
        self._cross = self._kernel(self._rows, known)
        self.best = float(self._log_s.min())

    def predict(self) -> tuple[Array, Array]:
        """Mean and standard deviation of log2 of the candidates' seconds, shapes (m,)."""
        mean, variance, _ = self._posterior()
        return mean, np.sqrt(np.maximum(variance, 1e-9))

    def choose(self, count: int) -> tuple[npt.NDArray[np.int64], Array]:
        """Candidates by expected improvement, each chosen as if the ones before it were measured.

        What was chosen is believed to come out as predicted (Ginsbourger, Le Riche and Carraro,
        2010, "kriging believer"), so that a round is not filled with one candidate's neighbours.

        Returns
        -------
        chosen, gains
            Positions, at most `count`, and the expected improvement of each, in log2 of seconds.
        """
        mean, variance, solved = self._posterior()
        best, open_ones = self.best, np.ones(len(mean), dtype=np.bool_)
        chosen: list[int] = []
        gains: list[float] = []
        columns: list[Array] = []
        for _ in range(min(count, len(mean))):
            deviation = np.sqrt(np.maximum(variance, 1e-9))
            gain = np.where(open_ones, expected_improvement(mean, deviation, best), -1.0)
            # without any hope the best predicted comes first
            at = int(np.argmax(gain if gain.max() > 1e-9 else np.where(open_ones, -mean, -np.inf)))
            chosen.append(at)
            gains.append(max(0.0, float(gain[at])))
            open_ones[at] = False
            # a value that is as predicted moves no mean; it takes away what was uncertain near it
            column = self._kernel(self._rows, self._rows[at : at + 1])[:, 0]
            column = column - self._cross @ solved[:, at] - sum(c * c[at] for c in columns)
            column = column / math.sqrt(max(float(variance[at]), 1e-9) + self._noise)
            columns.append(column)
            variance = variance - np.square(column)
            best = min(best, float(mean[at]))
        return np.asarray(chosen, dtype=np.int64), np.asarray(gains)

    def _posterior(self) -> tuple[Array, Array, Array]:
        """Means and variances of the candidates, and the inverse kernel times their covariances."""
        inner = self._kernel(self._known, self._known)
        inner[np.diag_indices_from(inner)] += self._noise
        solved = np.linalg.solve(inner, np.column_stack([self._residual, self._cross.T]))
        mean = self._mean + self._cross @ solved[:, 0]
        variance = self._amplitude - (self._cross * solved[:, 1:].T).sum(axis=1)
        return mean, variance, solved[:, 1:]

    def _kernel(self, one: Array, other: Array) -> Array:
        squares = (
            np.square(one).sum(axis=1)[:, None]
            + np.square(other).sum(axis=1)[None, :]
            - 2.0 * one @ other.T
        )
        return np.asarray(self._amplitude * np.exp(-0.5 * np.maximum(squares, 0.0) / _LENGTH**2))


def _standardised(
    known: npt.NDArray[np.float32], rows: npt.NDArray[np.float32]
) -> tuple[Array, Array]:
    """Both in units of each feature's spread; features that do not vary are left out."""
    together = np.concatenate([known, rows]).astype(np.float64)
    spread = together.std(axis=0)
    varying = spread > 1e-3
    scaled = (together[:, varying] - together[:, varying].mean(axis=0)) / spread[varying]
    scaled /= math.sqrt(max(1, int(varying.sum())))
    return scaled[: len(known)], scaled[len(known) :]


_SQRT_2 = math.sqrt(2.0)
_SQRT_2_PI = math.sqrt(2.0 * math.pi)
_erf = np.vectorize(math.erf, otypes=[np.float64])


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Expected drop below `best` of normally distributed values, shape of `mean`."""
    z = (best - mean) / deviation
    below = 0.5 * (1.0 + _erf(z / _SQRT_2))
    density = np.exp(-0.5 * np.square(z)) / _SQRT_2_PI
    return np.asarray(deviation * (z * below + density))
