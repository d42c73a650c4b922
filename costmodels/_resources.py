"""What the compiler will make of a GPU's candidates, told before they are built.

Registers, spills, shared memory and occupancy decide much of a kernel's time, and are known only
once it is compiled. One model of all families foretells them, for the compiler is the same; what it
foretells are further columns of the rows that the other models learn from and rank by. Candidates
that were refused for what they take teach it as well as the others.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from costmodels._booster import read_booster
from costmodels.features import FEATURE_LENGTH, IS_GPU

if TYPE_CHECKING:
    from familyseer.measure._cuda_limits import Resources

Rows = npt.NDArray[np.float32]

# log2(1 + registers), log2(1 + local bytes), log2(1 + shared bytes), occupancy
COLUMNS = 4
WIDE = FEATURE_LENGTH + COLUMNS
FIRST_TRAINING = 48
_GROWTH = 0.25
_ROUNDS = 80


def figures(resources: Sequence[Resources]) -> Rows:
    """The columns of n candidates as their compiler gives them, float32, shape (n, `COLUMNS`)."""
    told = np.asarray(
        [(r.registers, r.local_bytes, r.shared_bytes, r.occupancy) for r in resources],
        dtype=np.float32,
    ).reshape(-1, COLUMNS)
    told[:, :3] = np.log2(told[:, :3] + 1.0)
    return told


class ResourceModel:
    """Predicts what candidates take of a GPU from their features.

    Attributes
    ----------
    rows
        float32, shape (n, `FEATURE_LENGTH`), the candidates that were compiled.
    figures
        float32, shape (n, `COLUMNS`), what they take; see `figures`.
    booster
        XGBoost's object with an output a column; None before enough was compiled.
    trained_at
        Samples there were at its last training.
    trainings, train_seconds
        How often it was trained, and wall-clock seconds of that.
    """

    def __init__(self) -> None:
        self.rows: Rows = np.zeros((0, FEATURE_LENGTH), dtype=np.float32)
        self.figures: Rows = np.zeros((0, COLUMNS), dtype=np.float32)
        self.booster: Any = None
        self.trained_at = 0
        self.trainings = 0
        self.train_seconds = 0.0

    def learn(self, rows: Rows, told: Rows) -> None:
        """Takes in n compiled candidates, and trains if enough has been added since the last time.

        Parameters
        ----------
        rows
            Shape (n, `FEATURE_LENGTH`).
        told
            Shape (n, `COLUMNS`).
        """
        self.rows = np.concatenate([self.rows, rows])
        self.figures = np.concatenate([self.figures, told])
        if len(self.rows) >= max(FIRST_TRAINING, (1.0 + _GROWTH) * self.trained_at):
            self.train()

    def train(self) -> None:
        """Trains on all that was compiled; it must be something."""
        xgboost = importlib.import_module("xgboost")
        began = time.perf_counter()
        # one thread, for the reason that small trainings of `Booster` have
        matrix = xgboost.QuantileDMatrix(self.rows, self.figures, nthread=1, max_bin=64)
        settings = {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "max_depth": 4,
            "max_bin": 64,
            "eta": 0.1,
            "colsample_bytree": 0.3,
            "nthread": 1,
            "seed": 0,
            "verbosity": 0,
        }
        self.booster = xgboost.train(settings, matrix, _ROUNDS, verbose_eval=False)
        self.trained_at = len(self.rows)
        self.trainings += 1
        self.train_seconds += time.perf_counter() - began

    def predict(self, rows: Rows) -> Rows:
        """What candidates are expected to take, float32, shape (n, `COLUMNS`).

        0 for candidates of a CPU, and for all before the first training.
        """
        told = np.zeros((len(rows), COLUMNS), dtype=np.float32)
        on_gpu = rows[:, IS_GPU] > 0
        if self.booster is not None and on_gpu.any():
            told[on_gpu] = np.nan_to_num(self.booster.inplace_predict(rows[on_gpu]))
        return told

    def widen(self, rows: Rows) -> Rows:
        """Rows with the predictions behind them, shape (n, `WIDE`); as they are without a model."""
        if self.booster is None:
            return rows
        return np.concatenate([rows, self.predict(rows)], axis=1)

    def absorb(self, other: ResourceModel, *, samples: bool) -> None:
        """Takes over what an earlier run learnt and this one does not know yet.

        Parameters
        ----------
        other
            Left as it is.
        samples
            False takes the model alone, until this run has enough for one of its own.
        """
        if self.booster is None:
            self.booster = other.booster
            if samples and not len(self.rows):
                self.rows, self.figures = other.rows, other.figures
                self.trained_at = other.trained_at

    def restore(self, raw: bytes) -> None:
        """Reads a booster as `Booster.to_bytes` writes them.

        Raises
        ------
        ValueError
            XGBoost cannot read it, or it is of other features or other figures.
        """
        booster = read_booster(raw, (FEATURE_LENGTH,))
        told = booster.inplace_predict(np.zeros((1, FEATURE_LENGTH), dtype=np.float32))
        if told.shape != (1, COLUMNS):
            raise ValueError(f"a model of other than {COLUMNS} figures")
        self.booster = booster
