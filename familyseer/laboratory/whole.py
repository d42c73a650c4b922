"""A whole tuning run replayed: the live search, the whole design space, an emulated machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costmodels import FamilyCostModel
from familyseer.families import form_families
from familyseer.laboratory.clock import ReplayClock
from familyseer.laboratory.workers import Emulator, ReplayBuilder, ReplayRunner
from familyseer.search import BudgetLoop, Round, Rounds, TaskState
from familyseer.search._proposals import new_context
from familyseer.subgraphs import Subgraph
from familyseer.tactics import Tactics
from familyseer.tvm_env import load_tvm

ms = load_tvm(intrinsics=True).s_tir.meta_schedule


@dataclass
class Replayed:
    """What a replayed run decided.

    Attributes
    ----------
    stopped_by
        As `BudgetLoop.run` says.
    history
        One line a round: every figure to its last digit.
    estimated_s
        The model's estimated latency at the end, None while a subgraph has no valid schedule.
    trials
        Candidates measured.
    """

    stopped_by: str
    history: list[str]
    estimated_s: float | None
    trials: int


def replay_run(
    subgraphs: Sequence[Subgraph],
    target: Any,
    emulator: Emulator,
    *,
    seed: int,
    workers: int = 1,
    budget_s: float | None = None,
    max_trials: int | None = None,
    method: str = "op",
    tactics: Tactics | None = None,
    joins: Mapping[int, int] | None = None,
) -> Replayed:
    """Tunes subgraphs on an emulated machine: the same arguments, the same result.

    Parameters
    ----------
    workers
        Builders at a time, and threads of the tuning contexts.
    budget_s
        Seconds of work, not of wall-clock time.
    joins
        After so many rounds (the keys), how many workers there are from then on.
    """
    tactics = tactics or Tactics()
    family_of = {
        member: family.name
        for family in form_families(list(subgraphs), method)
        for member in family.members
    }
    clock = ReplayClock(budget_s)
    builder = ReplayBuilder(emulator, clock, workers)
    states = [TaskState(s, family_of[s.index]) for s in subgraphs]
    rounds = Rounds(
        states,
        [new_context(s, target, seed, workers) for s in subgraphs],
        builder=builder,
        runner=ReplayRunner(builder),
        database=ms.database.MemoryDatabase(),
        cost_model=FamilyCostModel(
            {s.key: family_of[s.index] for s in subgraphs},
            seed=seed,
            num_threads=1,
            shared=tactics.shared,
            own=tactics.own,
            local=tactics.local,
        ),
        clock=clock,
        max_trials=max_trials,
        tactics=tactics,
    )
    history: list[str] = []
    estimates: list[float | None] = [None]

    def on_round(done: Round) -> None:
        best_s, estimated_s = done.state.best_s, done.estimated_s
        history.append(
            f"{done.elapsed_s!r},{done.trials},{done.kind},{done.state.subgraph.name},"
            f"{done.state.family},{best_s!r},{estimated_s!r},{done.accuracy!r}"
        )
        estimates.append(estimated_s)
        if joins and len(history) in joins:
            builder.resize(joins[len(history)])

    try:
        stopped_by = BudgetLoop(rounds, on_round=on_round).run()
    finally:
        builder.close()
    return Replayed(stopped_by, history, estimates[-1], rounds.trials)
