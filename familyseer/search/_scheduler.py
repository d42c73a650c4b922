"""The budget loop as a MetaSchedule task scheduler: `task_scheduler=` of stock `ms.tune_tasks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from familyseer.families import form_families
from familyseer.search._clock import Clock
from familyseer.search._loop import BudgetLoop, Round
from familyseer.search._rounds import Rounds
from familyseer.search._starters import Starters
from familyseer.search._task import TaskState
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tactics import Tactics
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    from familyseer.check import Checker

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PyTaskScheduler: Any = ms.task_scheduler.PyTaskScheduler


def subgraphs_of_contexts(contexts: list[Any], weights: list[float]) -> list[Subgraph]:
    """The subgraphs of tuning contexts, in their order."""
    return [
        Subgraph(
            index=i,
            key=subgraph_key(context.mod),
            name=str(context.task_name),
            mod=context.mod,
            weight=max(1, round(float(weight))),
            flops=max(1.0, float(tvm.s_tir.analysis.estimate_tir_flops(context.mod))),
        )
        for i, (context, weight) in enumerate(zip(contexts, weights, strict=True))
    ]


def family_states(subgraphs: list[Subgraph], method: str, cost_model: Any) -> list[TaskState]:
    """Fresh states with their families, which a family cost model is told of."""
    family_of = {
        member: family.name
        for family in form_families(subgraphs, method)
        for member in family.members
    }
    assign = getattr(cost_model, "assign", None)
    if assign is not None:
        for subgraph in subgraphs:
            assign(subgraph.key, family_of[subgraph.index])
    return [TaskState(subgraph, family_of[subgraph.index]) for subgraph in subgraphs]


@tvm.ir.utils.derived_object
class FamilyTaskScheduler(_PyTaskScheduler):
    """Tunes by families, following the gradient per second; see `familyseer.search`.

    Works with any builder, runner, database and cost model of MetaSchedule. With
    `familyseer.measure.WarmBuilder` and `WarmRunner` rounds are short; with
    `costmodels.FamilyCostModel` siblings learn from each other and are foreseen.

    Parameters
    ----------
    families
        How families are formed: one of `familyseer.families.METHODS`.
    budget_s
        Wall-clock seconds for tuning, beside the trials that `tune_tasks` allows; None for no
        limit.
    clock
        A clock to tune by instead of one started when tuning starts.
    on_round
        Called with a `Round` after each round.
    tactics
        What the search does beyond sampling and ranking.
    warm_start
        Given the subgraphs and the cost model, teaches the model what earlier runs know and gives
        what the subgraphs start from, by their keys.
    checker
        Compares each candidate that would be the best with its untuned subgraph; None takes every
        candidate at its word.
    parts
        The builder, the runner and the cost model that `tune_tasks` is given, as Python has them.
        What MetaSchedule hands on to a scheduler is its own side of each, without that by which
        ours build ahead, cut slow candidates short and tell families apart.
    """

    def __init__(
        self,
        *,
        families: str = "op",
        budget_s: float | None = None,
        clock: Clock | None = None,
        on_round: Callable[[Round], None] = lambda _: None,
        tactics: Tactics | None = None,
        warm_start: Callable[[Sequence[Subgraph], Any], Mapping[str, Starters]] | None = None,
        checker: Checker | None = None,
        parts: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.parts = list(parts)
        self.tactics = tactics
        self.warm_start = warm_start
        self.checker = checker
        self.families = families
        self.budget_s = budget_s
        self.clock = clock
        self.on_round = on_round
        self.states: list[TaskState] = []
        self.stopped_by: str | None = None

    def tune(  # the arguments MetaSchedule passes, in its order
        self,
        tasks: list[Any],
        task_weights: list[float],
        max_trials_global: int,
        max_trials_per_task: int,
        num_trials_per_iter: int,
        builder: Any,
        runner: Any,
        measure_callbacks: list[Any],
        database: Any,
        cost_model: Any,
    ) -> None:
        """Tunes the tasks; called by `ms.tune_tasks`.

        Results go to `database` if the measure callbacks hold `AddToDatabase`, and the cost model
        always learns. Other callbacks are called after each round as MetaSchedule does.
        """
        builder, runner, cost_model = map(self._as_given, (builder, runner, cost_model))
        contexts = list(tasks)
        callbacks = list(measure_callbacks or [])
        records = any(isinstance(c, ms.measure_callback.AddToDatabase) for c in callbacks)
        if database is None or not records:
            database = ms.database.MemoryDatabase()
        if cost_model is None:
            from costmodels import FamilyCostModel

            cost_model = FamilyCostModel()
        subgraphs = subgraphs_of_contexts(contexts, [float(w) for w in task_weights])
        self.states = family_states(subgraphs, self.families, cost_model)
        others = [c for c in callbacks if not isinstance(c, _DONE_HERE)]

        def call_back(state: TaskState, done: list[Any]) -> None:
            for callback in others:
                callback.apply(
                    self._outer(),
                    state.index,
                    [m.candidate for m in done],
                    [m.builder_result for m in done],
                    [m.runner_result for m in done],
                )

        rounds = Rounds(
            self.states,
            contexts,
            builder=builder,
            runner=runner,
            database=database,
            cost_model=cost_model,
            clock=self.clock or Clock(self.budget_s),
            max_trials=int(max_trials_global),
            max_trials_per_task=int(max_trials_per_task),
            on_measured=call_back,
            tactics=self.tactics,
            starters=self.warm_start(subgraphs, cost_model) if self.warm_start else None,
            checker=self.checker,
        )
        loop = BudgetLoop(rounds, round_trials=int(num_trials_per_iter), on_round=self.on_round)
        self.stopped_by = loop.run()

    def _as_given(self, handed_on: Any) -> Any:
        for part in self.parts:
            if handed_on is not None and part.same_as(handed_on):
                return part
        return handed_on

    def next_task_id(self) -> int:
        """Not asked for: `tune` runs the whole loop."""
        return -1


# recording, learning and clearing away happen in the loop itself
_DONE_HERE = (
    ms.measure_callback.AddToDatabase,
    ms.measure_callback.UpdateCostModel,
    ms.measure_callback.RemoveBuildArtifact,
)
