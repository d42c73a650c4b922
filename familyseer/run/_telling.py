"""What a run tells its observer, from what the search knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from familyseer.families import Family
from familyseer.progress import FamilyInfo, RoundEvent, RunInfo
from familyseer.progress._base import RoundKind
from familyseer.search import Round, TaskState
from familyseer.subgraphs import Subgraph
from familyseer.target import describe_target


def run_info(
    model: str,
    target: Any,
    subgraphs: Sequence[Subgraph],
    families: Sequence[Family],
    *,
    budget_s: float | None,
    trials: int | None,
    untuned_s: float | None,
) -> RunInfo:
    """A run before its first round, each family with its share of the model's operations."""
    by_index = {s.index: s for s in subgraphs}
    total = sum(s.flops * s.weight for s in subgraphs) or 1.0
    told = []
    for family in families:
        members = [by_index[i] for i in family.members]
        share = sum(s.flops * s.weight for s in members) / total
        told.append(FamilyInfo(family.name, tuple(s.name for s in members), share))
    return RunInfo(
        model=model,
        target=describe_target(target),
        budget_s=budget_s,
        trials=trials,
        families=tuple(told),
        untuned_us=None if untuned_s is None else untuned_s * 1e6,
    )


def round_event(
    done: Round, states: Sequence[TaskState], best_us: float | None, estimated_us: float | None
) -> RoundEvent:
    """A round that has ended, with the best latency of its subgraph and the model's estimate."""
    state = done.state
    return RoundEvent(
        elapsed_s=done.elapsed_s,
        trials=done.trials,
        build_errors=sum(s.build_errors for s in states),
        run_errors=sum(s.run_errors for s in states),
        subgraph=state.subgraph.name,
        family=state.family,
        kind=cast(RoundKind, done.kind),
        candidates=done.measured,
        best_us=best_us,
        estimated_model_us=estimated_us,
        covered=done.covered,
        subgraphs=done.subgraphs,
        family_accuracy=done.accuracy,
        family_share=_family_share(states, state.family),
        why=done.why,
    )


def _family_share(states: Sequence[TaskState], family: str) -> float | None:
    known = [s for s in states if s.covered]
    total = sum(s.best_s * s.subgraph.weight for s in known)
    if not total:
        return None
    return sum(s.best_s * s.subgraph.weight for s in known if s.family == family) / total
