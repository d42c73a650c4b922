"""What tuning starts with: the subgraphs' states, the cost model, what earlier runs left of both.

A run and its replay start alike from here, so that they decide alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodels import FamilyCostModel
from familyseer.machine import available_cores
from familyseer.measure._measure import measure as measure_live
from familyseer.options import TuneOptions
from familyseer.run._history import Row, restore_progress
from familyseer.run._restore import restore
from familyseer.search import Clock, Rounds, TaskState
from familyseer.search._proposals import new_context
from familyseer.subgraphs import Subgraph


@dataclass(frozen=True)
class Earlier:
    """What earlier runs of the same model and target left in OUT.

    Attributes
    ----------
    models
        The folder of their cost models.
    rows
        Their rounds.
    """

    models: Path
    rows: Sequence[Row]


def make_rounds(
    options: TuneOptions,
    subgraphs: Sequence[Subgraph],
    families: Sequence[Any],
    target: Any,
    *,
    clock: Clock,
    database: Any,
    builder: Any,
    runner: Any,
    max_trials: int | None,
    earlier: Earlier | None = None,
    warm_start: Any = None,
    checker: Any = None,
    on_measured: Callable[[TaskState, list[Any]], None] = lambda _state, _done: None,
    measure: Callable[..., Any] = measure_live,
) -> Rounds:
    """The rounds of a run, its states as its earlier runs left them.

    Parameters
    ----------
    database
        The run's records; those of earlier runs are in it.
    max_trials
        Most candidates to measure from here on, or None.
    earlier
        None for the first run in a folder.
    warm_start
        A `familyseer.run._warm_start.WarmStart`, or None.
    checker, on_measured, measure
        As for `familyseer.search.Rounds`.
    """
    family_of = {m: family.name for family in families for m in family.members}
    states = [TaskState(s, family_of[s.index]) for s in subgraphs]
    contexts = [new_context(s, target, options.seed, available_cores()) for s in subgraphs]
    tactics = options.tactics
    cost_model = FamilyCostModel(
        {s.key: family_of[s.index] for s in subgraphs},
        seed=options.seed,
        num_threads=available_cores(),
        shared=tactics.shared,
        own=tactics.own,
        local=tactics.local,
    )
    if earlier is not None:
        restore(states, database, cost_model, earlier.models, contexts)
        restore_progress(states, earlier.rows)
    starters = warm_start.prepare(subgraphs, cost_model) if warm_start is not None else None
    return Rounds(
        states,
        contexts,
        builder=builder,
        runner=runner,
        database=database,
        cost_model=cost_model,
        clock=clock,
        max_trials=max_trials,
        on_measured=on_measured,
        tactics=tactics,
        starters=starters,
        measure=measure,
        checker=checker,
    )
