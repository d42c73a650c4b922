"""Starting from earlier runs: their traces are measured anew, their learners are taken over.

Times of another day say little about today's, so none is copied: an earlier run only decides what
is measured first, what is bred from, and what the cost models know before the first measurement.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from costmodels._candidates import anchor_name
from costmodels.store import load_learner
from familyseer.errors import UserError
from familyseer.run._foreign import (
    EXPECTED,
    Candidate,
    check_learner,
    decisive,
    read_subgraphs,
    read_target,
)
from familyseer.search._siblings import SEEDS_OF_EACH
from familyseer.search._starters import Starters
from familyseer.subgraphs import Subgraph
from familyseer.target import describe_target

log = logging.getLogger(__name__)

# of a subgraph met again, how many of its best candidates are measured once more
OWN_TRACES = 4
# beyond those, what is read in case that some are the same but for what does not matter
SPARE_TRACES = 4


@dataclass
class _Earlier:
    """What is taken from one folder.

    Attributes
    ----------
    name
        The folder as the user wrote it.
    alike
        Whether it was tuned for this run's target; if not, its shared model alone is taken.
    best
        Subgraph key -> its fastest distinct candidates, fastest first.
    used, seeds
        Key and rank of the candidates that this run measures again, and offers to siblings.
    """

    name: str
    folder: Path
    alike: bool
    best: dict[str, list[Candidate]] = field(default_factory=dict)
    anchors: dict[str, str] = field(default_factory=dict)
    matched: int = 0
    seeds: set[tuple[str, int]] = field(default_factory=set)
    used: set[tuple[str, int]] = field(default_factory=set)


class WarmStart:
    """The earlier runs that a run starts from.

    Parameters
    ----------
    folders
        What earlier runs left, in the order in which the user names them: where two know the same,
        the last one counts.
    out
        This run's own folder.
    target
        This run's target.
    any_target
        Take the shared model, and nothing else, of a run for another target.

    Raises
    ------
    UserError
        A folder is this run's own, is none of a tuning run, holds no measured candidate, or is for
        another target.
    """

    def __init__(
        self, folders: Sequence[Path], out: Path, target: Any, *, any_target: bool = False
    ) -> None:
        self._runs = [_read(folder, out, target, any_target) for folder in folders]

    def prepare(self, subgraphs: Sequence[Subgraph], cost_model: Any) -> dict[str, Starters]:
        """Teaches a cost model, and gives what subgraphs start from by their keys.

        Learners that cannot be read are left out with a warning.

        Parameters
        ----------
        cost_model
            A `costmodels.FamilyCostModel` that knows this run's families.
        """
        latest_first = self._runs[::-1]
        for run in latest_first:
            try:
                learner = load_learner(str(run.folder / "costmodels"))
            except ValueError as error:
                log.warning("the cost models of an earlier run are not used: %s", error)
                continue
            cost_model.learner.absorb(learner, samples=run.alike)
        found = {}
        for subgraph in subgraphs if any(run.best for run in latest_first) else ():
            starters = Starters(
                _own_traces(latest_first, subgraph.key), _siblings(latest_first, subgraph)
            )
            if starters.traces or starters.siblings:
                found[subgraph.key] = starters
        return found

    def report(self) -> list[dict[str, Any]]:
        """What was used of each folder, in plain numbers.

        ``records_used`` counts candidates that this run starts from, ``subgraphs_matched`` this
        run's subgraphs that were measured there, ``seeds`` candidates offered to other subgraphs.
        """
        return [
            {
                "dir": run.name,
                "records_used": len(run.used | run.seeds),
                "subgraphs_matched": run.matched,
                "seeds": len(run.seeds),
            }
            for run in self._runs
        ]


def _own_traces(runs: Sequence[_Earlier], key: str) -> list[Any]:
    """The best traces of a subgraph; the runs take turns, since their times do not compare."""
    for run in runs:
        run.matched += key in run.best
    ranked = [[(run, rank, c) for rank, c in enumerate(run.best.get(key, []))] for run in runs]
    found: dict[str, Any] = {}
    for turn in zip_longest(*ranked):
        for run, rank, candidate in filter(None, turn):
            if len(found) < OWN_TRACES and candidate.decided not in found:
                found[candidate.decided] = candidate.trace
                run.used.add((key, rank))
    return list(found.values())


def _siblings(runs: Sequence[_Earlier], subgraph: Subgraph) -> list[list[Any]]:
    """Candidates of other subgraphs with the same anchor operation, a list a subgraph."""
    anchor = anchor_name(subgraph.mod)
    found: dict[str, list[Any]] = {subgraph.key: []}
    for run in runs:
        for key, name in run.anchors.items():
            if name != anchor or key in found:
                continue
            # one without anything to decide has nothing to hand on
            ranked = [(rank, c) for rank, c in enumerate(run.best[key]) if c.sketch.length]
            found[key] = [(c.sketch, c.vector) for _, c in ranked[:SEEDS_OF_EACH]]
            run.seeds.update((key, rank) for rank, _ in ranked[:SEEDS_OF_EACH])
    return [sources for sources in found.values() if sources]


def _read(folder: Path, out: Path, target: Any, any_target: bool) -> _Earlier:
    if not folder.is_dir():
        raise UserError(f"--warm-start {folder}: no such folder; {EXPECTED}")
    if folder.resolve() == out.resolve():
        raise UserError(
            f"--warm-start {folder}: is this run's own OUT; expected another run's folder "
            "(--resume goes on from OUT)"
        )
    theirs = read_target(folder)
    alike = decisive(theirs) == decisive(target)
    if not (alike or any_target):
        raise UserError(
            f"--warm-start {folder}: tuned for {describe_target(theirs)}, this run is for "
            f"{describe_target(target)}; expected the same target, or --warm-start-any-target to "
            "take the shared cost model alone"
        )
    run = _Earlier(str(folder), folder, alike)
    if alike:
        _take(run, theirs)
    check_learner(folder)
    return run


def _take(run: _Earlier, target: Any) -> None:
    for subgraph in read_subgraphs(run.folder, target, OWN_TRACES + SPARE_TRACES):
        best: dict[str, Candidate] = {}
        for candidate in subgraph.candidates:
            best.setdefault(candidate.decided, candidate)
        run.best[subgraph.key] = list(best.values())[:OWN_TRACES]
        run.anchors[subgraph.key] = subgraph.anchor
    if not run.best:
        raise UserError(f"--warm-start {run.folder}: holds no measured candidate; {EXPECTED}")
