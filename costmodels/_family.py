"""What is known of one family: its samples, its booster, and how well it has predicted."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from costmodels._booster import Booster, labels_of
from costmodels._fusion import Fusion, mix
from costmodels._resources import ResourceModel
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
    """Learns from one family's results and scores its candidates.

    Parameters
    ----------
    resources
        Foretells what the boosters look at beside the features; by default nothing.
    """

    def __init__(self, resources: ResourceModel | None = None) -> None:
        self.resources = resources or ResourceModel()
        self.samples = Samples()
        self.booster: Booster | None = None
        self.accuracy = DecayingAccuracy()
        self.booster_accuracy = DecayingAccuracy()
        self.prior_accuracy = DecayingAccuracy()
        self.accuracy_on: dict[str, DecayingAccuracy] = {}
        self.fusion = Fusion()
        self.trained_at = 0
        self.train_seconds = 0.0
        self.trainings = 0
        self.fell = False

    def score(self, batch: Batch, shared: Booster | None = None) -> Array:
        """Scores, shape (n,): above 0 and higher is better; 0 for a candidate without features.

        Parameters
        ----------
        shared
            The model of all families, if there is one.
        """
        scores = np.zeros(len(batch.valid))
        if batch.valid.any():
            rows, prior = batch.rows[batch.valid], batch.prior[batch.valid]
            roots = self.trusted_roots(rows, prior, shared)
            scores[batch.valid] = _prior_score(prior) if roots is None else labels_of(roots)
        return scores

    def trusted_roots(
        self, rows: npt.NDArray[np.float32], prior: Array, shared: Booster | None
    ) -> Array | None:
        """Predicted square roots of labels, shape (n,); None while the prior is better."""
        if not self.trusts_booster():
            return None
        return self._roots(self.resources.widen(rows), prior, shared)

    def _roots(
        self, wide: npt.NDArray[np.float32], prior: Array, shared: Booster | None
    ) -> Array | None:
        if self.booster is None:
            return None if shared is None else shared.roots(wide, prior)
        own = self.booster.roots(wide, prior)
        weight = self.fusion.weight
        if shared is None or weight == 1.0:
            return own
        return mix(shared.roots(wide, prior), own, weight)

    def trusts_booster(self) -> bool:
        """Whether the booster predicted at least about as well as the prior alone would have."""
        booster, prior = self.booster_accuracy.value, self.prior_accuracy.value
        if booster is None or prior is None:
            return True
        return booster >= prior - _PRIOR_LEAD / math.sqrt(self.prior_accuracy.total)

    def learn(
        self,
        key: str,
        batch: Batch,
        seconds: Array,
        *,
        seed: int,
        threads: int,
        shared: Booster | None = None,
        own: bool = True,
        scores: Array | None = None,
    ) -> None:
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
        shared
            The model of all families, if there is one.
        own
            Whether the family has a model of its own.
        scores
            Shape (n,), what was predicted of them; by default what the boosters say.
        """
        valid = batch.valid
        if scores is None:
            scores = self.score(batch, shared)
        scores = scores[valid]
        rows, prior, seconds = batch.rows[valid], batch.prior[valid], seconds[valid]
        if len(seconds) == 0:
            return
        before = self.accuracy.value
        now = self.accuracy.add(scores, seconds)
        self.accuracy_on.setdefault(key, DecayingAccuracy()).add(scores, seconds)
        wide = self.resources.widen(rows)
        roots = self._roots(wide, prior, shared)
        if roots is not None:
            self.booster_accuracy.add(roots, seconds)
            self.prior_accuracy.add(prior, seconds)
            self.fell = now is not None and before is not None and now < before - _FALLEN
        if self.booster is not None and shared is not None:
            self.fusion.judge(shared.roots(wide, prior), self.booster.roots(wide, prior), seconds)
        self.samples.add(key, rows, prior, seconds)
        if own and self._pays():
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
        self.booster = Booster.fit(
            self.resources.widen(samples.rows),
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
            wide = self.resources.widen(samples.rows[mine])
            scores = self.booster.predict(wide, samples.prior[mine])
            found = pair_counts(scores, samples.seconds[mine])
            right, total = right + found[0], total + found[1]
        return right / total if total else None


def _prior_score(prior: Array) -> Array:
    share = np.exp2(np.clip(prior, -200.0, 30.0))
    return np.asarray(share / (1.0 + share))
