"""Which configurations of a problem are measured next.

A space has thousands of configurations but only hundreds of block sizes. What a plan with some
block size would compute takes tens of milliseconds to find out, and everything else that is known
of a configuration nothing. So each round looks at a few more block sizes, half of them near the
best one's, and the cost model chooses among all configurations whose block size was looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from familyseer.measure._measure import median_run_s
from familyseer.search._loop import ROUND_TRIALS
from familyseer.search._proposals import RANDOM_SHARE, quiet_logger
from familyseer.spamm_tasks._kinds import Values, block_of, text_of
from familyseer.spamm_tasks._model import SpammCostModel
from familyseer.spamm_tasks._problem import Sizes
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import config_of
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PySearchStrategy: Any = ms.search_strategy.PySearchStrategy

# block sizes that a round looks at, and for how long at most if there are as many as the least
NEW_BLOCKS, LEAST_NEW_BLOCKS, LOOK_S = 16, 2, 0.6
# configurations that a surrogate is asked to choose among: those that score best
MOST_CONSIDERED = 512


@tvm.ir.utils.derived_object
class ConfigSearch(_PySearchStrategy):
    """Proposes configurations of one problem, the default one first, none twice.

    Parameters
    ----------
    task
        The problem.
    model
        What ranks its configurations.
    seed
        Of what is left to chance.
    measured
        Configurations that an earlier run measured, with their seconds, infinite for a failure.
    """

    def __init__(
        self,
        task: SpammTask,
        model: SpammCostModel,
        seed: int,
        measured: Iterable[tuple[Values, float]] = (),
    ) -> None:
        super().__init__()
        self._task, self._model = task, model
        self._rng = np.random.default_rng(seed)
        self._texts = [text_of(config) for config in task.kind.configs]
        self._positions = {text: position for position, text in enumerate(self._texts)}
        self._offered: set[int] = set()
        self._rounds: list[set[int]] = []
        self._best: tuple[float, Sizes] = (math.inf, block_of(task.default))
        self._of_block: dict[Sizes, list[int]] = {}
        for position, config in enumerate(task.kind.configs):
            self._of_block.setdefault(block_of(config), []).append(position)
        self._unseen = [block for block in self._of_block if not task.survey.known(block)]
        for config, seconds in measured:
            self._note(config, seconds)

    def _initialize_with_tune_context(self, context: Any) -> None:
        pass

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: list[Any],
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Nothing is to be prepared: the space is a list."""

    def post_tuning(self) -> None:
        """Nothing is to be cleared away."""

    def generate_measure_candidates(self) -> list[Any] | None:
        """A round of candidates, those first that are expected to bring most; None at the end."""
        self._look_at_more()
        default = self._task.kind.default
        chosen = [] if default in self._offered else [default]
        open_ones = [p for p in self._open() if p not in chosen]
        by_chance = max(1, round(RANDOM_SHARE * ROUND_TRIALS))
        chosen += self._choose(open_ones, ROUND_TRIALS - by_chance - len(chosen))
        rest = [p for p in open_ones if p not in chosen]
        drawn = self._rng.permutation(len(rest))[: ROUND_TRIALS - len(chosen)]
        chosen += [rest[int(i)] for i in drawn]
        if not chosen:
            return None
        self._offered.update(chosen)
        self._rounds.append(set(chosen))
        configs = [self._task.kind.configs[position] for position in chosen]
        return [ms.MeasureCandidate(self._task.schedule(config), []) for config in configs]

    def notify_runner_results(self, measure_candidates: list[Any], results: list[Any]) -> None:
        """Learns what was measured; what was proposed beside it and was not may come again."""
        done = set()
        for candidate, result in zip(measure_candidates, results, strict=True):
            config = config_of(candidate.sch.mod) or self._task.default
            failed = result.error_msg is not None or not result.run_secs
            done |= self._note(config, math.inf if failed else median_run_s(result.run_secs))
        for proposed in [each for each in self._rounds if each & done]:
            self._offered -= proposed - done
            self._rounds.remove(proposed)

    def clone(self) -> Any:
        """The search goes on where it is: it is never used for two problems."""
        return self

    def _note(self, config: Values, seconds: float) -> set[int]:
        position = self._positions.get(text_of(config))
        if seconds < self._best[0]:
            self._best = seconds, block_of(config)
        found = set() if position is None else {position}
        self._offered |= found
        return found

    def _open(self) -> list[int]:
        known = (b for b in self._of_block if self._task.survey.known(b))
        return [p for block in known for p in self._of_block[block] if p not in self._offered]

    def _choose(self, positions: Sequence[int], count: int) -> list[int]:
        configs = [self._task.kind.configs[p] for p in positions]
        order = np.argsort(-self._model.scores(self._task, configs), kind="stable")
        considered = [int(i) for i in order[:MOST_CONSIDERED]]
        chosen = self._model.choose(self._task, [configs[i] for i in considered], count)
        return [positions[considered[i]] for i in chosen]

    def _look_at_more(self) -> None:
        began = time.monotonic()
        for number in range(NEW_BLOCKS):
            late = time.monotonic() - began > LOOK_S and number >= LEAST_NEW_BLOCKS
            if late or not self._unseen:
                return
            if number % 2:
                at = int(self._rng.integers(len(self._unseen)))
            else:
                best = np.log2(self._best[1])
                gaps = np.square(np.log2(self._unseen) - best).sum(axis=1)
                at = int(np.argmin(gaps))
            self._task.survey.statistics(self._unseen.pop(at))


def context_of(task: SpammTask, search: Any, target: Any) -> Any:
    """A tuning context whose space is the generator's and not MetaSchedule's."""
    return ms.TuneContext(
        mod=task.subgraph.mod,
        target=target,
        space_generator=ms.space_generator.ScheduleFn(
            lambda _schedule: None, sch_rules=[], postprocs=[], mutator_probs={}
        ),
        search_strategy=search,
        task_name=task.subgraph.name,
        num_threads=1,
        logger=quiet_logger(),
    )
