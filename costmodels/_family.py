"""What is known of one family: its samples, its booster, and how well it has predicted."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from costmodels._booster import FamilyBooster
from costmodels._samples import Samples
from costmodels.features import Batch
from costmodels.metrics import DecayingAccuracy, pair_counts

Array = npt.NDArray[np.float64]

_FIRST_TRAINING = 16
_GROWTH = 0.15
_BATCH = 16
_FALLEN = 0.1
# how far ahead the prior must be, over the square root of the candidates judged, to be taken
# instead: about two standard deviations of a pairwise accuracy
_PRIOR_LEAD = 0.6


class Family:
    """Learns from one family's results and scores its candidates."""

    def __init__(self) -> None:
        self.samples = Samples()
        self.booster: FamilyBooster | None = None
        self.accuracy = DecayingAccuracy()
        self.booster_accuracy = DecayingAccuracy()
        self.prior_accuracy = DecayingAccuracy()
        self.accuracy_on: dict[str, DecayingAccuracy] = {}
        self.trained_at = 0
        self.train_seconds = 0.0
        self.trainings = 0
        self.fell = False

    def score(self, batch: Batch) -> Array:
        """Scores, shape (n,): above 0 and higher is better; 0 for a candidate without features."""
        scores = np.zeros(len(batch.valid))
        if batch.valid.any():
            rows, prior = batch.rows[batch.valid], batch.prior[batch.valid]
            scores[batch.valid] = (
                self.booster.predict(rows, prior)
                if self.booster is not None and self.trusts_booster()
                else _prior_score(prior)
            )
        return scores

    def trusts_booster(self) -> bool:
        """Whether the booster predicted at least about as well as the prior alone would have."""
        booster, prior = self.booster_accuracy.value, self.prior_accuracy.value
        if booster is None or prior is None:
            return True
        return booster >= prior - _PRIOR_LEAD / math.sqrt(self.prior_accuracy.total)

    def learn(self, key: str, batch: Batch, seconds: Array, *, seed: int, threads: int) -> None:
        """Judges the predictions for a batch of one subgraph, keeps it, trains if that pays.

        Parameters
        ----------
        key
            The subgraph.
        batch
            Features of n candidates; those without features are left out.
        seconds
            Shape (n,), infinite for a failure.
        seed, threads
            Of the training.
        """
        valid = batch.valid
        rows, prior, seconds = batch.rows[valid], batch.prior[valid], seconds[valid]
        if len(seconds) == 0:
            return
        before = self.accuracy.value
        scores = self.score(Batch(rows, prior, np.ones(len(rows), dtype=np.bool_)))
        now = self.accuracy.add(scores, seconds)
        self.accuracy_on.setdefault(key, DecayingAccuracy()).add(scores, seconds)
        if self.booster is not None:
            self.booster_accuracy.add(self.booster.predict(rows, prior), seconds)
            self.prior_accuracy.add(prior, seconds)
            self.fell = now is not None and before is not None and now < before - _FALLEN
        self.samples.add(key, rows, prior, seconds)
        if self._pays():
            self.train(seed=seed, threads=threads)

    def _pays(self) -> bool:
        n, new = len(self.samples), len(self.samples) - self.trained_at
        if new == 0 or n < _FIRST_TRAINING:
            return False
        if self.booster is None or self.fell:
            return True
        return new >= _BATCH or new >= _GROWTH * self.trained_at

    def train(self, *, seed: int, threads: int) -> None:
        """Trains on all samples but the held-out ones."""
        samples, labels = self.samples, self.samples.labels()
        if not labels.any():
            return
        self.booster = FamilyBooster.fit(
            samples.rows,
            samples.prior,
            labels,
            samples.held_out(seed),
            seed=seed,
            threads=threads,
        )
        self.trained_at = len(samples)
        self.train_seconds += self.booster.training.seconds
        self.trainings += 1
        self.fell = False

    def held_out_accuracy(self, seed: int) -> float | None:
        """Pairwise accuracy, within subgraphs, on the held-out candidates of the last training."""
        if self.booster is None or not self.booster.training.held_out:
            return None
        samples = self.samples
        aside = samples.held_out(seed)
        aside[self.trained_at :] = False
        right, total = 0.0, 0
        for index in range(len(samples.keys)):
            mine = aside & (samples.owner == index)
            scores = self.booster.predict(samples.rows[mine], samples.prior[mine])
            found = pair_counts(scores, samples.seconds[mine])
            right, total = right + found[0], total + found[1]
        return right / total if total else None


def _prior_score(prior: Array) -> Array:
    share = np.exp2(np.clip(prior, -200.0, 30.0))
    return np.asarray(share / (1.0 + share))
