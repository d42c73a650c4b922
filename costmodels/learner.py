"""What is learnt from measured candidates, as arrays: needs neither TVM nor a tuning context."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import numpy as np
import numpy.typing as npt

from costmodels._booster import Booster
from costmodels._family import Family
from costmodels._fusion import Fusion
from costmodels._local import Own, Surrogate
from costmodels._resources import ResourceModel
from costmodels._samples import Samples
from costmodels._shared import Shared
from costmodels.features import Batch

Array = npt.NDArray[np.float64]


# below this the boosters' own error on a subgraph cannot be told
_LEAST_OWN = 4
# a root below this is no better known than the root itself
_LEAST_ROOT = 0.05


class Learner:
    """Models of families, the model of all of them, and what becomes of new results.

    One model a family is FamilySeer's (arXiv 2201.00194, section 3). It says nothing of a family
    that is young, and generalises badly to unlike members (Bayesian Code Diffusion, OSDI 2025);
    the model of all families does, and each family mixes the two by what they have earned.

    Parameters
    ----------
    assigned
        Subgraph key -> family name.
    seed, threads
        Of the trainings.
    shared, own, local
        Whether there is a model of all families, one a family, and one of what a subgraph's own
        measurements say beside those.
    """

    def __init__(
        self,
        assigned: Mapping[str, str] | None = None,
        *,
        seed: int = 0,
        threads: int = 1,
        shared: bool = True,
        own: bool = True,
        local: bool = True,
    ) -> None:
        self.assigned = dict(assigned or {})
        self.seed = seed
        self.threads = threads
        self.use_shared = shared
        self.use_own = own
        self.use_local = local
        self.families: dict[str, Family] = {}
        self.resources = ResourceModel()
        self.shared = Shared(self.resources)

    def family(self, name: str) -> Family:
        """A family by name, new if it was never met."""
        return self.families.setdefault(name, Family(self.resources))

    def family_of(self, key: str) -> Family:
        """The family that a subgraph is assigned to.

        Raises
        ------
        KeyError
            It is assigned to none.
        """
        return self.family(self.assigned[key])

    def assign(self, key: str, name: str) -> None:
        """Puts a subgraph into a family, from its next result on with what was measured of it."""
        before = self.families.get(self.assigned.get(key, ""))
        self.assigned[key] = name
        after = self.family(name)
        if before is None or before is after:
            return
        rows, prior, seconds = before.samples.take(key)
        if len(seconds):
            after.samples.add(key, rows, prior, seconds)
            before.trained_at = after.trained_at = 0
        if key in before.accuracy_on:
            after.accuracy_on[key] = before.accuracy_on.pop(key)

    def absorb(self, other: Learner, *, samples: bool = True) -> None:
        """Takes over what an earlier run learnt and this one does not know yet.

        A subgraph's samples go to the family that it is assigned to here, else to the family of the
        name it had; where this run has no such family they teach the shared model alone. Those of a
        subgraph that has samples here stay behind, for two days' times of it do not compare. A
        booster is taken where there is none, and kept until enough is new to train another.

        Parameters
        ----------
        other
            Left as it is.
        samples
            False takes the shared model alone, as it is: what was measured there says nothing here.
        """
        # boosters that look at what it foretells come with it
        self.resources.absorb(other.resources, samples=samples)
        if samples:
            here = {*self.families, *self.assigned.values()}
            self._absorb_samples(other, here)
            for name, theirs in other.families.items():
                if name in here:
                    _inherit(self.family(name), theirs)
        if self.use_shared and self.shared.booster is None:
            self.shared.booster = other.shared.booster
            held = sum(len(known) for known in self._all_samples())
            self.shared.trained_at = min(other.shared.trained_at, held)

    def _absorb_samples(self, other: Learner, here: set[str]) -> None:
        met = {key for known in self._all_samples() for key in known.keys}
        elder = Samples()
        for name, theirs in other.families.items():
            for key in theirs.samples.keys:
                if key in met:
                    continue
                home = self.assigned.get(key, name)
                into = self.family(home).samples if home in here else elder
                into.add(key, *theirs.samples.of(key))
        if len(elder):
            self.shared.elders.append(elder)

    def _all_samples(self) -> list[Samples]:
        return [*(known.samples for known in self.families.values()), *self.shared.elders]

    def score(self, key: str, batch: Batch, *, local: bool = True) -> Array:
        """Scores of a subgraph's candidates, shape (n,), higher is better, 0 for an invalid one.

        Parameters
        ----------
        local
            Whether the subgraph's own process corrects what the boosters say.
        """
        surrogate = self._surrogate(key, batch) if local else None
        if surrogate is None:
            return self.family_of(key).score(batch, self.shared.booster)
        scores = np.zeros(len(batch.valid))
        mean, _ = surrogate.predict()
        # as labels are: the best time over the candidate's
        scores[batch.valid] = np.exp2(np.clip(surrogate.best - mean, -60.0, 60.0))
        return scores

    def choose(self, key: str, batch: Batch, count: int) -> tuple[npt.NDArray[np.int64], Array]:
        """Which of a subgraph's candidates to measure next, in order.

        Returns
        -------
        chosen, gains
            Positions of at most `count` valid candidates, and by what share each is expected to
            improve on the best time so far; infinite before there is one.
        """
        valid = np.flatnonzero(batch.valid)
        surrogate = self._surrogate(key, batch)
        if surrogate is None:
            scores = self.score(key, batch)[valid]
            chosen = valid[np.argsort(-scores, kind="stable")[:count]]
            return chosen, np.full(len(chosen), np.inf)
        found, gains = surrogate.choose(count)
        return valid[found], 1.0 - np.exp2(-gains)

    def _surrogate(self, key: str, batch: Batch) -> Surrogate | None:
        """The process over the valid candidates, once enough of the subgraph was measured."""
        if not self.use_local or not batch.valid.any():
            return None
        family = self.family_of(key)
        rows, prior, seconds = family.samples.of(key)
        finite = np.isfinite(seconds)
        if finite.sum() < _LEAST_OWN:
            return None
        shared = self.shared.booster
        own = Own(
            rows[finite],
            np.log2(seconds[finite]),
            _log_time(family, rows[finite], prior[finite], shared),
        )
        mean = _log_time(family, batch.rows[batch.valid], batch.prior[batch.valid], shared)
        return Surrogate(own, batch.rows[batch.valid], mean)

    def learn(self, key: str, batch: Batch, seconds: Array) -> None:
        """Judges the models on a subgraph's results, keeps those, trains where that pays.

        Parameters
        ----------
        seconds
            Shape (n,), infinite for a failure.
        """
        self.family_of(key).learn(
            key,
            batch,
            seconds,
            scores=self.score(key, batch),
            seed=self.seed,
            threads=self.threads,
            shared=self.shared.booster,
            own=self.use_own,
        )
        if self.use_shared:
            everyone = [known.samples for known in self.families.values()]
            self.shared.learn(everyone, seed=self.seed, threads=self.threads)

    def accuracy(self, name: str) -> float | None:
        """Share of pairs predicted in the right order before they were measured."""
        known = self.families.get(name)
        return known.accuracy.value if known else None

    def accuracy_on(self, key: str) -> float | None:
        """As `accuracy`, on one subgraph's candidates."""
        for known in self.families.values():
            if key in known.accuracy_on:
                return known.accuracy_on[key].value
        return None

    def samples(self, name: str) -> int:
        """Measured candidates of a family, failures included."""
        known = self.families.get(name)
        return len(known.samples) if known else 0

    def experience(self, name: str) -> int:
        """Measured candidates that a family's predictions draw on."""
        if not self.use_shared:
            return self.samples(name)
        return sum(len(known) for known in self._all_samples())


def _inherit(mine: Family, theirs: Family) -> None:
    """An earlier family's booster, with the trust that it has earned."""
    if mine.booster is not None or theirs.booster is None:
        return
    mine.booster = theirs.booster
    mine.trained_at = min(theirs.trained_at, len(mine.samples))
    mine.booster_accuracy = copy(theirs.booster_accuracy)
    mine.prior_accuracy = copy(theirs.prior_accuracy)
    mine.accuracy = copy(theirs.accuracy)
    mine.fusion = Fusion([copy(judged) for judged in theirs.fusion.judged])


def _log_time(
    family: Family, rows: npt.NDArray[np.float32], prior: Array, shared: Booster | None
) -> Array:
    """log2 of predicted seconds but for a constant of the subgraph."""
    roots = family.trusted_roots(rows, prior, shared)
    if roots is None:
        return -np.clip(prior, -60.0, 30.0)
    return np.asarray(-2.0 * np.log2(np.clip(roots, _LEAST_ROOT, 5.0)))
