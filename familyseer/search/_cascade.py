"""Cheap before dear: decisions are judged by a small model before any of them is applied.

Applying a trace and reading TVM's features of it costs milliseconds, a vector of decisions
microseconds. What the full model has said of the candidates applied so far teaches a small model to
tell from the decisions alone; most of a population is then discarded before it costs anything. A
vector whose trace could not be applied teaches it too, so whatever a target's postprocessors
refuse (a thread block too large, a loop that cannot be bound) is soon not tried again.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from familyseer.search._decisions import Decisions, DecisionSpace

Scores = npt.NDArray[np.float64]

# below this a small model knows less than chance tells
LEAST_SAMPLES = 24
_ROUNDS = 40


class DecisionModel:
    """Ranks decisions of one subgraph by what the full model said of applied ones.

    Parameters
    ----------
    sketches
        The subgraph's sketches.
    seed
        Of the training.
    """

    def __init__(self, sketches: Sequence[DecisionSpace], seed: int) -> None:
        self.sketches = sketches
        self.seed = seed
        self._width = max((s.length for s in sketches), default=0)
        self._booster: object | None = None

    @property
    def ready(self) -> bool:
        """Whether it has been fitted."""
        return self._booster is not None

    def fit(self, which: Sequence[int], vectors: Sequence[Decisions], scores: Scores) -> None:
        """Learns the order of scores.

        Parameters
        ----------
        which
            The sketch of each vector.
        scores
            Shape (n,), higher is better, 0 for what could not be applied. Only their order is
            learnt, so the scores of differently scaled models may follow one another.
        """
        if len(vectors) < LEAST_SAMPLES or np.ptp(scores) == 0:
            return
        xgboost = importlib.import_module("xgboost")
        order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
        targets = np.square(order / max(len(order) - 1, 1))
        # XGBoost's threads stand in the way of builds; 40 small trees need 10 ms on one
        matrix = xgboost.DMatrix(self._rows(which, vectors), targets, nthread=1)
        settings = {
            "tree_method": "exact" if len(vectors) < 512 else "hist",
            "max_depth": 4,
            "eta": 0.2,
            "subsample": 0.9,
            "nthread": 1,
            "seed": self.seed,
            "verbosity": 0,
        }
        self._booster = xgboost.train(settings, matrix, _ROUNDS, verbose_eval=False)

    def rank(self, which: Sequence[int], vectors: Sequence[Decisions]) -> Scores:
        """Predicted goodness, shape (n,), higher is better."""
        if self._booster is None or not vectors:
            return np.zeros(len(vectors))
        predicted = self._booster.inplace_predict(self._rows(which, vectors))  # type: ignore[attr-defined]
        return np.asarray(predicted, dtype=np.float64)

    def _rows(self, which: Sequence[int], vectors: Sequence[Decisions]) -> npt.NDArray[np.float32]:
        rows = np.full((len(vectors), self._width + 1), np.nan, dtype=np.float32)
        kinds = np.asarray(which, dtype=np.int64)
        rows[:, 0] = kinds
        for index, sketch in enumerate(self.sketches):
            mine = np.flatnonzero(kinds == index)
            if len(mine):
                rows[mine, 1 : 1 + sketch.length] = sketch.encode([vectors[int(i)] for i in mine])
        return rows
