"""The model of all families: what candidates of any subgraph have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costmodels._booster import Booster
from costmodels._resources import ResourceModel
from costmodels._samples import Samples

_FIRST_TRAINING = 16
# it changes slowly, and it costs the most to train: families' own models follow what is new
_GROWTH = 0.25
_BATCH = 32


class Shared:
    """One booster over every family's samples.

    Parameters
    ----------
    resources
        Foretells what the booster looks at beside the features; by default nothing.

    Attributes
    ----------
    booster
        None before enough was measured.
    trained_at
        Samples there were at its last training.
    trainings, train_seconds
        How often it was trained, and wall-clock seconds of that.
    elders
        Samples of earlier runs that no family of this one holds.
    """

    def __init__(self, resources: ResourceModel | None = None) -> None:
        self.resources = resources or ResourceModel()
        self.booster: Booster | None = None
        self.trained_at = 0
        self.trainings = 0
        self.train_seconds = 0.0
        self.elders: list[Samples] = []

    def learn(self, families: Sequence[Samples], *, seed: int, threads: int) -> None:
        """Trains if enough has been added since the last time."""
        known = [s for s in (*families, *self.elders) if len(s)]
        total = sum(len(s) for s in known)
        new = total - self.trained_at
        wanted = _FIRST_TRAINING if self.booster is None else max(_BATCH, _GROWTH * self.trained_at)
        if new < wanted:
            return
        labels = np.concatenate([s.labels() for s in known])
        if not labels.any():
            return
        self.booster = Booster.fit(
            self.resources.widen(np.concatenate([s.rows for s in known])),
            np.concatenate([s.prior for s in known]),
            labels,
            np.concatenate([s.held_out(seed) for s in known]),
            seed=seed,
            threads=threads,
        )
        self.trained_at = total
        self.trainings += 1
        self.train_seconds += self.booster.training.seconds
