"""An XGBoost model of candidates, boosted from the analytic estimate and early-stopped."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from familyseer.versions import check_once

# XGBoost itself is imported when something is trained; that it is the wrong one is told before
check_once("xgboost")

Array = npt.NDArray[np.float64]

_ROUNDS = 60
_MOST_ROUNDS = 250
_PATIENCE = 20
# a line through few points follows noise: this much spread of the prior pulls it level
_RIDGE = 8.0
_FLOOR = 0.05
# XGBoost's threads spin at barriers: on cores shared with builds two of them were 50 times slower
# than one, which needs 30 ms for 500 samples
_THREADS_FROM = 4096


@dataclass(frozen=True)
class Training:
    """How a booster came about.

    Attributes
    ----------
    samples
        Candidates trained on; the held-out ones are not among them.
    held_out
        Candidates kept out to stop early.
    rounds
        Trees kept.
    seconds
        Wall-clock time of the training.
    rmse
        Root-mean-square error of labels on the held-out candidates, None without any.
    """

    samples: int
    held_out: int
    rounds: int
    seconds: float
    rmse: float | None


class Booster:
    """Predicts labels of the candidates of a family, or of all families.

    Trees correct a line fitted through the prior, so ten samples move the
    prior's ranking a little instead of replacing it by noise. Targets are the square roots of the
    labels: the steep half of the scale is where the good candidates are, and its few points would
    otherwise carry nearly all of the squared error.

    Parameters
    ----------
    booster
        XGBoost's object.
    intercept, slope
        The line through the prior.
    training
        How it came about.

    Attributes
    ----------
    width
        Features that it looks at: the first ones, where rows have more.
    """

    def __init__(self, booster: Any, intercept: float, slope: float, training: Training) -> None:
        self.booster = booster
        self.intercept = intercept
        self.slope = slope
        self.training = training
        self.width = int(booster.num_features())

    @classmethod
    def fit(
        cls,
        rows: npt.NDArray[np.float32],
        prior: Array,
        labels: Array,
        held_out: npt.NDArray[np.bool_],
        *,
        seed: int,
        threads: int,
    ) -> Booster:
        """Trains from scratch on the samples that are not held out.

        Parameters
        ----------
        rows
            Shape (n, features).
        prior
            Shape (n,), log2 of the estimated share of the machine's peak.
        labels
            Shape (n,), best time of the subgraph over the candidate's time, 0 for a failure.
        held_out
            Shape (n,); all False trains a fixed number of rounds.
        seed, threads
            XGBoost's; small trainings take one thread whatever is given.
        """
        xgboost = importlib.import_module("xgboost")
        began = time.perf_counter()
        threads = threads if len(labels) >= _THREADS_FROM else 1
        targets = np.sqrt(labels)
        train = ~held_out
        intercept, slope = _line(prior[train], targets[train])
        # trees learn what is left of the line: the same as XGBoost's base margin, whose setting
        # starts all of XGBoost's threads and waits for them, milliseconds beside busy builds
        left = targets - (intercept + slope * prior)
        stopping = bool(held_out.any())
        watch = {}
        matrix = xgboost.QuantileDMatrix(rows[train], left[train], nthread=threads, max_bin=64)
        if stopping:
            aside = xgboost.DMatrix(rows[held_out], left[held_out], nthread=threads)
            watch = {"evals": [(aside, "aside")], "early_stopping_rounds": _PATIENCE}
        settings = {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "max_depth": 4,
            "max_bin": 64,
            "eta": 0.1 if stopping else 0.15,
            "subsample": 0.9,
            "colsample_bytree": 0.3,
            "nthread": threads,
            "seed": seed,
            "base_score": 0.0,
            "verbosity": 0,
        }
        booster = xgboost.train(
            settings, matrix, _MOST_ROUNDS if stopping else _ROUNDS, verbose_eval=False, **watch
        )
        rounds = booster.num_boosted_rounds()
        rmse = None
        if stopping:
            rounds = booster.best_iteration + 1
            rmse = float(booster.best_score)
            booster = booster[:rounds]
        booster.set_param({"nthread": 1})
        training = Training(
            int(train.sum()), int(held_out.sum()), rounds, time.perf_counter() - began, rmse
        )
        return cls(booster, intercept, slope, training)

    def roots(self, rows: npt.NDArray[np.float32], prior: Array) -> Array:
        """Predicted square roots of labels, shape (n,), around 1 for a subgraph's best so far."""
        seen = rows[:, : self.width]
        left = np.asarray(self.booster.inplace_predict(seen), dtype=np.float64)
        root = self.intercept + self.slope * prior + left
        return np.clip(np.nan_to_num(root), -5.0, 5.0)

    def predict(self, rows: npt.NDArray[np.float32], prior: Array) -> Array:
        """Predicted labels, shape (n,): positive, around 1 for a subgraph's best so far."""
        return labels_of(self.roots(rows, prior))

    def to_bytes(self) -> bytes:
        """XGBoost's own universal binary JSON."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(
        cls,
        raw: bytes,
        intercept: float,
        slope: float,
        training: Training,
        features: tuple[int, ...],
    ) -> Booster:
        """Reads what `to_bytes` wrote.

        Raises
        ------
        ValueError
            XGBoost cannot read it, or it was trained on another number of features.
        """
        return cls(read_booster(raw, features), intercept, slope, training)


def read_booster(raw: bytes, features: tuple[int, ...]) -> Any:
    """XGBoost's object from its binary JSON.

    Raises
    ------
    ValueError
        XGBoost cannot read it, or it was trained on none of these numbers of features.
    """
    xgboost = importlib.import_module("xgboost")
    try:
        booster = xgboost.Booster()
        booster.load_model(bytearray(raw))
        booster.set_param({"nthread": 1})
        length = booster.num_features()
    except (xgboost.core.XGBoostError, TypeError, OverflowError) as error:
        raise ValueError("not a model in XGBoost's format") from error
    if length not in features:
        expected = " or ".join(map(str, features))
        raise ValueError(f"a model of {length} features: expected {expected}")
    return booster


def labels_of(roots: Array) -> Array:
    """Positive labels in the order of their predicted roots."""
    # below the floor a decaying curve keeps the order and the sign
    low = _FLOOR * np.exp(np.minimum(roots / _FLOOR - 1.0, 0.0))
    return np.asarray(np.square(np.where(roots < _FLOOR, low, roots)))


def _line(prior: Array, targets: Array) -> tuple[float, float]:
    centre, level = float(prior.mean()), float(targets.mean())
    spread = float(np.square(prior - centre).sum())
    slope = float(((prior - centre) * (targets - level)).sum()) / (spread + _RIDGE)
    slope = max(slope, 0.0)
    return level - slope * centre, slope
