"""MetaSchedule's cost model with a model a family behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from costmodels._candidates import (
    CandidateFeatures,
    anchor_name,
    subgraph_flops,
    subgraph_key,
)
from costmodels._family import Family
from costmodels._resources import figures
from costmodels.features import Batch
from costmodels.learner import Learner
from costmodels.store import load_learner, save_learner
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    from familyseer.measure._cuda_limits import Resources

_tvm = load_tvm()
_PyCostModel: Any = _tvm.s_tir.meta_schedule.cost_model.PyCostModel

_MOST_THREADS = 8


@_tvm.ir.utils.derived_object
class FamilyCostModel(_PyCostModel):
    """Predicts candidates with one XGBoost model a family of subgraphs.

    Goes wherever MetaSchedule takes a ``cost_model``. A family that has seen too little ranks by an
    analytic estimate (see `costmodels.prior`), never by chance. One model a family of subgraphs is
    FamilySeer's (arXiv 2201.00194, section 3).

    Parameters
    ----------
    families
        Subgraph key (`familyseer.subgraphs.subgraph_key`, the structural hash of the TIR as 16 hex
        digits) -> family name.
    family_of
        Gives the family of a subgraph that ``families`` does not list, from its TIR; by default the
        name of its anchor operation.
    seed
        Of the held-out split and the training: the same results in the same order give the same
        predictions.
    num_threads
        Of trainings on thousands of samples; by default those this process may run on, at most 8.
    shared, own, local
        Whether there is a model of all families, one a family, and one of a subgraph's own
        measurements beside those; see `costmodels.learner`.
    """

    def __init__(
        self,
        families: Mapping[str, str] | None = None,
        *,
        family_of: Callable[[Any], str] | None = None,
        seed: int = 0,
        num_threads: int | None = None,
        shared: bool = True,
        own: bool = True,
        local: bool = True,
    ) -> None:
        super().__init__()
        self.learner = Learner(
            families,
            seed=seed,
            threads=num_threads or min(_usable_cores(), _MOST_THREADS),
            shared=shared,
            own=own,
            local=local,
        )
        self._family_of = family_of or anchor_name
        self._flops: dict[str, float] = {}
        self._features = CandidateFeatures()

    def assign(self, key: str, family: str) -> None:
        """Puts a subgraph into a family, from its next result on with what was measured of it."""
        self.learner.assign(key, family)

    def predict(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Scores of a context's candidates, float64, shape (n,), higher is better.

        Every score is finite and at least 0; a candidate without features has 0, below all others.
        """
        return self._scores(context, candidates, local=True)

    def outlook(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """As `predict`, by the boosters alone.

        A process on the subgraph's own measurements ranks the surroundings of the fastest best, so
        that a population bred under it alone does not leave them.
        """
        return self._scores(context, candidates, local=False)

    def choose(self, context: Any, candidates: Sequence[Any], count: int) -> npt.NDArray[np.int64]:
        """Positions of the candidates to measure next, at most `count`, in order.

        By expected improvement where the subgraph's own measurements allow (`costmodels._local`),
        else by score.
        """
        key = self._locate(context.mod)
        batch = self._batch(context, key, candidates)
        return self.learner.choose(key, batch, count)[0]

    def score_known(
        self, context: Any, digests: Sequence[int], *, local: bool = True
    ) -> npt.NDArray[np.float64]:
        """Present scores of candidates predicted before, by structural hash of their TIR.

        Parameters
        ----------
        local
            As `predict` scores them; else as `outlook` does.

        Returns
        -------
        ndarray
            float64, shape (n,); NaN for a candidate whose features are not remembered.
        """
        if len(digests) == 0:
            return np.zeros(0)
        batch = self._features.known(context, digests)
        scores = self.learner.score(self._locate(context.mod), batch, local=local)
        return np.where(batch.valid, scores, np.nan)

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Judges the model on a context's results, learns from them, trains when that pays.

        Raises
        ------
        ValueError
            There are not as many results as candidates.
        """
        if len(candidates) != len(results):
            raise ValueError(
                f"{len(results)} results for {len(candidates)} candidates: expected one for each"
            )
        if len(candidates) == 0:
            return
        key = self._locate(context.mod)
        seconds = np.asarray([_median_seconds(result) for result in results])
        self.learner.learn(key, self._batch(context, key, candidates), seconds)

    def learn_resources(
        self, context: Any, candidates: Sequence[Any], resources: Sequence[Resources]
    ) -> None:
        """Learns what a context's candidates take of a GPU, as their compiler said.

        From its next training on a model also looks at what is foretold of that. Those that were
        refused belong here as well as those that were run.
        """
        batch = self._batch(context, self._locate(context.mod), candidates)
        self.learner.resources.learn(batch.rows[batch.valid], figures(resources)[batch.valid])

    def accuracy(self, family: str) -> float | None:
        """Share of pairs that were predicted in the right order before they were measured.

        Recent results count most. None for a family without a comparable pair so far.
        """
        return self.learner.accuracy(family)

    def accuracy_on(self, key: str) -> float | None:
        """As `accuracy`, on one subgraph's candidates."""
        return self.learner.accuracy_on(key)

    def samples(self, family: str) -> int:
        """Measured candidates that the family has learned from, failures included."""
        return self.learner.samples(family)

    def experience(self, family: str) -> int:
        """Measured candidates that the family's predictions draw on, other families' too."""
        return self.learner.experience(family)

    def families(self) -> list[str]:
        """Names of the families met so far, in order of appearance."""
        return list(self.learner.families)

    def summary(self) -> dict[str, dict[str, Any]]:
        """What a report says of each family, in plain numbers and None; times in seconds."""
        return {
            name: _summary(family, self.learner.seed)
            for name, family in self.learner.families.items()
        }

    def save(self, path: str) -> None:
        """Writes the model into a folder (see `costmodels.store`).

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        save_learner(os.fspath(path), self.learner, str(_tvm.__version__))

    def load(self, path: str) -> None:
        """Continues from a folder that `save` wrote; what was learned so far is dropped.

        Raises
        ------
        ValueError
            The folder is incomplete, damaged, or of another version (see `costmodels.store`).
        """
        if not Path(path).is_dir():
            raise ValueError(f"{path}: no such folder, expected one that a cost model was saved to")
        found = load_learner(os.fspath(path))
        self.learner.families = found.families
        self.learner.shared = found.shared
        self.learner.resources = found.resources
        # what the caller assigned in this process outranks what an earlier one did
        self.learner.assigned = {**found.assigned, **self.learner.assigned}

    def _scores(
        self, context: Any, candidates: Sequence[Any], *, local: bool
    ) -> npt.NDArray[np.float64]:
        if len(candidates) == 0:
            return np.zeros(0)
        key = self._locate(context.mod)
        return self.learner.score(key, self._batch(context, key, candidates), local=local)

    def _locate(self, mod: Any) -> str:
        key = subgraph_key(mod)
        if key not in self.learner.assigned:
            self.learner.assigned[key] = self._family_of(mod)
        self.learner.family_of(key)
        if key not in self._flops:
            self._flops[key] = subgraph_flops(mod)
        return key

    def _batch(self, context: Any, key: str, candidates: Sequence[Any]) -> Batch:
        return self._features.batch(context, list(candidates), self._flops[key])


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _median_seconds(result: Any) -> float:
    runs = np.asarray([float(s) for s in result.run_secs or []])
    median = float(np.median(runs)) if len(runs) else np.inf
    return median if np.isfinite(median) and median > 0 else np.inf


def _summary(family: Family, seed: int) -> dict[str, Any]:
    training = family.booster.training if family.booster else None
    return {
        "subgraphs": len(family.samples.keys),
        "samples": len(family.samples),
        "trainings": family.trainings,
        "trained_samples": training.samples if training else 0,
        "held_out_samples": training.held_out if training else 0,
        "rounds": training.rounds if training else 0,
        "train_s": family.train_seconds,
        "held_out_rmse": training.rmse if training else None,
        "held_out_accuracy": family.held_out_accuracy(seed),
        "accuracy": family.accuracy.value,
        "prior_accuracy": family.prior_accuracy.value,
        "ranks_by": "booster" if training and family.trusts_booster() else "prior",
    }
