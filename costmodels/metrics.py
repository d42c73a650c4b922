"""How well predicted scores order candidates; everything vectorised over pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def _ordered_pairs(
    scores: npt.ArrayLike, seconds: npt.ArrayLike, tolerance: float
) -> tuple[float, int]:
    predicted = np.asarray(scores, dtype=np.float64)
    measured = np.asarray(seconds, dtype=np.float64)
    if predicted.shape != measured.shape or predicted.ndim != 1:
        raise ValueError(
            f"scores of shape {predicted.shape} for seconds of shape {measured.shape}: "
            "expected two vectors of one length"
        )
    left, right = np.triu_indices(len(measured), 1)
    low = np.minimum(measured[left], measured[right])
    high = np.maximum(measured[left], measured[right])
    apart = high > low * (1.0 + tolerance)
    left, right = left[apart], right[apart]
    faster_left = measured[left] < measured[right]
    gap = predicted[left] - predicted[right]
    right_way = np.where(faster_left, gap > 0, gap < 0)
    return float(np.count_nonzero(right_way) + 0.5 * np.count_nonzero(gap == 0)), len(left)


def pair_counts(
    scores: npt.ArrayLike, seconds: npt.ArrayLike, *, tolerance: float = 0.02
) -> tuple[float, int]:
    """Pairs of candidates put in the right order, and pairs that have an order.

    Parameters
    ----------
    scores
        Shape (n,), higher is better.
    seconds
        Shape (n,), measured; infinite for a candidate that failed. Two failures have no order.
    tolerance
        Relative difference up to which two times count as equal: noise has no order to predict.

    Returns
    -------
    tuple
        Right pairs (an equal score counts half) and comparable pairs.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    return _ordered_pairs(scores, seconds, tolerance)


def pairwise_accuracy(
    scores: npt.ArrayLike, seconds: npt.ArrayLike, *, tolerance: float = 0.02
) -> float | None:
    """Share of comparable pairs in the right order, 0.5 for a coin; None without such a pair.

    Parameters are those of `pair_counts`.
    """
    right, total = _ordered_pairs(scores, seconds, tolerance)
    return right / total if total else None


def top_k_recall(scores: npt.ArrayLike, seconds: npt.ArrayLike, k: int) -> float:
    """Share of the k fastest candidates that are among the k with the highest scores.

    Parameters
    ----------
    scores
        Shape (n,), higher is better.
    seconds
        Shape (n,), measured.
    k
        At least 1; capped at n.

    Raises
    ------
    ValueError
        k is below 1, there is no candidate, or the shapes differ.
    """
    predicted = np.asarray(scores, dtype=np.float64)
    measured = np.asarray(seconds, dtype=np.float64)
    if predicted.shape != measured.shape or predicted.ndim != 1:
        raise ValueError(
            f"scores of shape {predicted.shape} for seconds of shape {measured.shape}: "
            "expected two vectors of one length"
        )
    if k < 1 or len(measured) == 0:
        raise ValueError(f"k = {k} of {len(measured)} candidates: expected at least 1 of each")
    k = min(k, len(measured))
    fastest = np.argsort(measured, kind="stable")[:k]
    chosen = np.argsort(-predicted, kind="stable")[:k]
    return len(np.intersect1d(fastest, chosen)) / k


class DecayingAccuracy:
    """Pairwise accuracy over a stream of batches, old batches forgotten exponentially.

    Prequential evaluation with fading factors (Gama, Sebastiao and Rodrigues, Machine Learning 90,
    2013): a batch's weight halves with every `half_life` results that come after it.
    """

    def __init__(self, right: float = 0.0, total: float = 0.0, half_life: float = 64.0) -> None:
        self.right = right
        self.total = total
        self.half_life = half_life

    def add(self, scores: npt.ArrayLike, seconds: npt.ArrayLike) -> float | None:
        """Takes in a batch of one subgraph and gives the accuracy on it alone.

        Parameters are those of `pair_counts`; each candidate of the batch weighs the same however
        large the batch is.
        """
        right, total = _ordered_pairs(scores, seconds, 0.02)
        if total == 0:
            return None
        n = len(np.asarray(seconds))
        fade = 0.5 ** (n / self.half_life)
        # a batch of n has about n^2/2 pairs: weighed by candidates, not by pairs
        self.right = self.right * fade + n * right / total
        self.total = self.total * fade + n
        return right / total

    @property
    def value(self) -> float | None:
        """Accuracy in 0..1, or None before the first comparable pair."""
        return self.right / self.total if self.total else None
