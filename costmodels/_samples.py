"""The measured candidates of one family, grouped by subgraph."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from costmodels.features import FEATURE_LENGTH

Array = npt.NDArray[np.float64]

_HELD_OUT_SHARE = 0.15
# below this, what is held out costs the training more accuracy than stopping early gains
_HELD_OUT_FROM = 128
_HELD_OUT_LEAST = 8


def _no_rows() -> npt.NDArray[np.float32]:
    return np.zeros((0, FEATURE_LENGTH), dtype=np.float32)


def _no_numbers() -> Array:
    return np.zeros(0)


def _no_indices() -> npt.NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass
class Samples:
    """Measured candidates.

    Attributes
    ----------
    keys
        The subgraphs, in order of appearance.
    rows
        float32, shape (n, features).
    prior
        Shape (n,), log2 of the estimated share of the machine's peak.
    seconds
        Shape (n,), infinite for a candidate that failed.
    owner
        Shape (n,), position in ``keys`` of each candidate's subgraph.
    """

    keys: list[str] = field(default_factory=list)
    rows: npt.NDArray[np.float32] = field(default_factory=_no_rows)
    prior: Array = field(default_factory=_no_numbers)
    seconds: Array = field(default_factory=_no_numbers)
    owner: npt.NDArray[np.int64] = field(default_factory=_no_indices)

    def __len__(self) -> int:
        return len(self.seconds)

    def add(self, key: str, rows: npt.NDArray[np.float32], prior: Array, seconds: Array) -> None:
        """Takes in candidates of one subgraph; the arrays have one length."""
        if key not in self.keys:
            self.keys.append(key)
        owner = np.full(len(seconds), self.keys.index(key), dtype=np.int64)
        self.rows = np.concatenate([self.rows, rows])
        self.prior = np.concatenate([self.prior, prior])
        self.seconds = np.concatenate([self.seconds, seconds])
        self.owner = np.concatenate([self.owner, owner])

    def of(self, key: str) -> tuple[npt.NDArray[np.float32], Array, Array]:
        """Rows, priors and seconds of one subgraph's candidates."""
        if key not in self.keys:
            return _no_rows(), _no_numbers(), _no_numbers()
        mine = self.owner == self.keys.index(key)
        return self.rows[mine], self.prior[mine], self.seconds[mine]

    def take(self, key: str) -> tuple[npt.NDArray[np.float32], Array, Array]:
        """Removes a subgraph's candidates and gives their rows, priors and seconds."""
        if key not in self.keys:
            return _no_rows(), _no_numbers(), _no_numbers()
        index = self.keys.index(key)
        mine = self.owner == index
        taken = self.rows[mine], self.prior[mine], self.seconds[mine]
        self.rows, self.prior = self.rows[~mine], self.prior[~mine]
        self.seconds, owner = self.seconds[~mine], self.owner[~mine]
        self.owner = owner - (owner > index)
        self.keys.remove(key)
        return taken

    def labels(self) -> Array:
        """Best time of a candidate's subgraph so far over its own: (0, 1], and 0 for a failure."""
        best = np.full(len(self.keys), np.inf)
        np.minimum.at(best, self.owner, self.seconds)
        finite = np.isfinite(self.seconds)
        labels = np.zeros(len(self.seconds))
        labels[finite] = best[self.owner[finite]] / self.seconds[finite]
        return labels

    def held_out(self, seed: int) -> npt.NDArray[np.bool_]:
        """Which candidates to keep out of training; none while there are few.

        Decided by a candidate's own features, so it is the same in every training and process, and
        two candidates that the model cannot tell apart are on the same side.
        """
        if len(self) < _HELD_OUT_FROM:
            return np.zeros(len(self), dtype=np.bool_)
        salt = zlib.crc32(seed.to_bytes(8, "little", signed=True))
        hashes = np.asarray([zlib.crc32(row.tobytes(), salt) for row in self.rows])
        chosen = hashes < _HELD_OUT_SHARE * 2**32
        if chosen.sum() < _HELD_OUT_LEAST:
            return np.zeros(len(self), dtype=np.bool_)
        return np.asarray(chosen, dtype=np.bool_)
