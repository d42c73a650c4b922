"""One problem with all that a search needs of it: space, plans, features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodels.features import FEATURE_LENGTH, Batch
from familyseer.spamm_tasks._kinds import Kind, Values, block_of, own_numbers
from familyseer.spamm_tasks._problem import Problem
from familyseer.spamm_tasks._survey import Survey
from familyseer.spamm_tasks._workload import schedule_of, subgraph


class SpammTask:
    """A problem to tune.

    Parameters
    ----------
    problem, kind
        The problem and the backend whose kernels are tuned.
    a, b
        Its matrices.

    Attributes
    ----------
    subgraph
        As the budget loop knows it.

    Raises
    ------
    ValueError
        The problem's valid ratio cannot be met.
    """

    def __init__(self, problem: Problem, kind: Kind, a: Any, b: Any) -> None:
        self.problem, self.kind = problem, kind
        block = block_of(kind.configs[kind.default])
        self.survey = Survey(problem, a, b, kind.norms, block)
        self._wanted = self.survey.statistics(block)
        self.subgraph = subgraph(problem, float(self._wanted.flops))

    @property
    def default(self) -> Values:
        """The configuration that is used where none was tuned."""
        return self.kind.configs[self.kind.default]

    def schedule(self, config: Values) -> Any:
        """The candidate that names a configuration."""
        return schedule_of(self.subgraph.mod, config)

    def tau(self, config: Values) -> float:
        """The tau at which a configuration is measured."""
        return self.survey.statistics(block_of(config)).tau

    def features(self, configs: Sequence[Values]) -> Batch:
        """What cost models are told of configurations, in the form of other candidates' features.

        The numbers of a configuration and of its plan take the first columns; the rest, of which
        the features of TIR need more, is zero.
        """
        rows = np.zeros((len(configs), FEATURE_LENGTH), dtype=np.float32)
        prior = np.zeros(len(configs))
        for number, config in enumerate(configs):
            plan = self.survey.statistics(block_of(config))
            prior[number] = self.kind.prior(config, plan, self._wanted)
            told = (*own_numbers(config), *plan.numbers(), *self.kind.more_numbers(config))
            rows[number, : len(told) + 1] = (*told, prior[number])
        return Batch(rows, prior, np.ones(len(configs), dtype=np.bool_))
