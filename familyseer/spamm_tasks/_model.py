"""The cost model of SpAMM's configurations: the learner of other families, on other features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels.learner import Learner
from costmodels.store import load_learner, save_learner
from familyseer.measure._measure import median_run_s
from familyseer.spamm_tasks._kinds import Values
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import FAMILY, config_of
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
# named for the type checker, which cannot follow TVM's modules
_PyCostModel: Any = tvm.s_tir.meta_schedule.cost_model.PyCostModel


@tvm.ir.utils.derived_object
class SpammCostModel(_PyCostModel):
    """Predicts configurations with one XGBoost model of the family ``spamm``.

    Boosters, their prior, the process over a problem's own measurements and the files are those of
    `costmodels.FamilyCostModel`; only the features are not TIR's.

    Parameters
    ----------
    tasks
        The problems that are tuned.
    seed
        Of the held-out split and the training.
    """

    def __init__(self, tasks: Iterable[SpammTask], *, seed: int = 0) -> None:
        super().__init__()
        self._tasks = {task.subgraph.key: task for task in tasks}
        # all problems are of one family: a model of all families would be the same one again
        self.learner = Learner(dict.fromkeys(self._tasks, FAMILY), seed=seed, shared=False)

    def predict(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Scores of a context's candidates, shape (n,), higher is better."""
        task = self._task(context)
        return self.scores(task, [_config(task, each) for each in candidates])

    def scores(self, task: SpammTask, configs: Sequence[Values]) -> npt.NDArray[np.float64]:
        """Scores of configurations, shape (n,), higher is better."""
        if not configs:
            return np.zeros(0)
        return self.learner.score(task.subgraph.key, task.features(configs))

    def choose(self, task: SpammTask, configs: Sequence[Values], count: int) -> list[int]:
        """Positions of the configurations to measure next, at most `count`, in order."""
        if not configs or count < 1:
            return []
        chosen, _ = self.learner.choose(task.subgraph.key, task.features(configs), count)
        return [int(position) for position in chosen]

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Judges the model on a context's results, learns from them, trains when that pays."""
        task = self._task(context)
        configs = [_config(task, each) for each in candidates]
        seconds = [median_run_s(r.run_secs) if r.run_secs else np.inf for r in results]
        if configs:
            key, features = task.subgraph.key, task.features(configs)
            self.learner.learn(key, features, np.asarray(seconds, dtype=np.float64))

    def accuracy(self, family: str) -> float | None:
        """Share of pairs that were predicted in the right order before they were measured."""
        return self.learner.accuracy(family)

    def accuracy_on(self, key: str) -> float | None:
        """As `accuracy`, on one problem's configurations."""
        return self.learner.accuracy_on(key)

    def experience(self, family: str) -> int:
        """Measured configurations that predictions draw on."""
        return self.learner.experience(family)

    def save(self, path: str) -> None:
        """Writes the model into a folder; see `costmodels.store`."""
        save_learner(os.fspath(path), self.learner, str(tvm.__version__))

    def load(self, path: str) -> None:
        """Continues from a folder that `save` wrote.

        Raises
        ------
        ValueError
            The folder is incomplete, damaged, or of another version.
        """
        if not Path(path).is_dir():
            raise ValueError(f"{path}: no such folder, expected one that a cost model was saved to")
        self.learner.families = load_learner(os.fspath(path)).families

    def _task(self, context: Any) -> SpammTask:
        return self._tasks[subgraph_key(context.mod)]


def _config(task: SpammTask, candidate: Any) -> Values:
    # the workload as it is stands for what is used without tuning
    found = config_of(candidate.sch.mod)
    return task.default if found is None else found
