"""Recording a subgraph: half of its candidates at random, half bred from the fast ones.

Random candidates show the space as it is, bred ones what a search finds in it: a table of either
kind alone would flatter one kind of policy. The fastest are measured again, in turns, so that the
best of the table is no winner by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels import FamilyCostModel
from costmodels._candidates import CandidateFeatures
from familyseer.families import METHODS, form_families
from familyseer.laboratory.tables import Recorded
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._measure import Measured, measure
from familyseer.measure._timing import RunPlan, expect_model
from familyseer.search._apply import apply_decisions
from familyseer.search._decisions import Decisions
from familyseer.search._evolution import structural_hash
from familyseer.search._proposals import new_context
from familyseer.search._sketch import Sketch, sketches_of
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm

ms = load_tvm(intrinsics=True).s_tir.meta_schedule

BATCH = 25
BRED_SHARE = 0.5
POPULATION = 110
PARENTS = 24
REMEASURED, PASSES = 12, 3
# what is slower than this many times the best is timed by its first run alone
MARGIN = 3.0
# a tuning run does not wait longer for a build either
BUILD_LIMIT_S = 3.0
# a space without tilings is small, and so is what there is to learn in it
FEW = 40


@dataclass
class _Draft:
    """Candidates of one subgraph while they are recorded."""

    schedules: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    build_s: list[float] = field(default_factory=list)
    sketch: list[int] = field(default_factory=list)
    vectors: list[Decisions] = field(default_factory=list)
    drawn: list[bool] = field(default_factory=list)

    def fastest(self, count: int) -> list[int]:
        order = np.argsort(self.seconds, kind="stable")
        return [int(i) for i in order[:count] if np.isfinite(self.seconds[int(i)])]


class Recorder:
    """Records the subgraphs of networks on this machine.

    Parameters
    ----------
    target
        What the candidates are built for; it must be this machine.
    candidates
        Candidates of a subgraph with tilings; others get fewer.
    seed
        Of all that is drawn.
    """

    def __init__(self, target: Any, *, candidates: int, seed: int) -> None:
        self.target = target
        self.candidates = candidates
        self.seed = seed
        self.builder = WarmBuilder(vector_math=True)
        self.runner = WarmRunner(plan=RunPlan(margin=MARGIN))
        self.features = CandidateFeatures()

    def close(self) -> None:
        """Stops the workers."""
        self.builder.close()
        self.runner.close()

    def record(
        self, subgraphs: Sequence[Subgraph], told: Callable[[Recorded], None] = lambda _: None
    ) -> list[Recorded]:
        """The tables of a network's subgraphs; `told` is called with each when it is done."""
        expect_model(self.runner, subgraphs)
        families: dict[str, dict[int, str]] = {}
        for method in METHODS:
            formed = form_families(list(subgraphs), method)
            families[method] = {m: family.name for family in formed for m in family.members}
        done = []
        for subgraph in subgraphs:
            named = {method: of[subgraph.index] for method, of in families.items()}
            recorded = self._record_one(subgraph, named)
            if recorded is not None:
                done.append(recorded)
                told(recorded)
        return done

    def _record_one(self, subgraph: Subgraph, families: dict[str, str]) -> Recorded | None:
        context = new_context(subgraph, self.target, self.seed, 1)
        sketches = sketches_of(context.generate_design_space())
        rng = np.random.default_rng([self.seed, int(subgraph.key[:8], 16)])
        tiled = any(slot.width > 1 and slot.extent > 1 for s in sketches for slot in s.slots)
        wanted = self.candidates if tiled else min(FEW, self.candidates)
        draft, seen = _Draft(), set[int]()
        model = FamilyCostModel({subgraph.key: "own"}, seed=self.seed)
        while len(draft.seconds) < wanted:
            drawn = len(draft.seconds) < (1.0 - BRED_SHARE) * wanted
            count = min(BATCH, wanted - len(draft.seconds))
            found = (
                self._draw(context, sketches, rng, seen, count)
                if drawn
                else self._breed(context, sketches, rng, seen, count, draft, model)
            )
            if not found:
                break
            best = min(draft.seconds, default=float("inf"))
            done = self._measure(context, [sch for sch, _, _ in found], best)
            # without a deadline none is left out, so they come back in order
            for one, (_, index, vector) in zip(done, found, strict=True):
                draft.schedules.append(one.candidate.sch)
                draft.seconds.append(one.run_s)
                draft.build_s.append(one.build_s)
                draft.sketch.append(index)
                draft.vectors.append(vector)
                draft.drawn.append(drawn)
            model.update(context, [m.candidate for m in done], [m.runner_result for m in done])
        if not np.isfinite(draft.seconds).any():
            return None
        self._measure_again(context, draft)
        return self._recorded(subgraph, context, families, sketches, draft)

    def _draw(
        self,
        context: Any,
        sketches: list[Sketch],
        rng: np.random.Generator,
        seen: set[int],
        count: int,
    ) -> list[tuple[Any, int, Decisions]]:
        found: list[tuple[Any, int, Decisions]] = []
        for _ in range(6 * count):
            if len(found) >= count:
                break
            index = int(rng.integers(len(sketches)))
            self._try(context, sketches, index, sketches[index].sample(rng), rng, seen, found)
        return found

    def _breed(
        self,
        context: Any,
        sketches: list[Sketch],
        rng: np.random.Generator,
        seen: set[int],
        count: int,
        draft: _Draft,
        model: FamilyCostModel,
    ) -> list[tuple[Any, int, Decisions]]:
        parents = draft.fastest(PARENTS)
        tried: list[tuple[Any, int, Decisions]] = []
        for _ in range(POPULATION):
            # the faster the likelier: the smaller of two draws
            parent = parents[int(rng.integers(len(parents), size=2).min())]
            index, vector = draft.sketch[parent], draft.vectors[parent]
            mates = [p for p in parents if draft.sketch[p] == index]
            if len(mates) > 1 and rng.random() < 0.4:
                mate = mates[int(rng.integers(len(mates)))]
                vector = sketches[index].cross(vector, draft.vectors[mate], rng)
            vector = sketches[index].mutate(vector, rng)
            self._try(context, sketches, index, vector, rng, seen, tried)
        if not tried:
            return []
        candidates = [ms.MeasureCandidate(sch, []) for sch, _, _ in tried]
        order = np.argsort(-np.asarray(model.predict(context, candidates)), kind="stable")
        chosen = [tried[int(i)] for i in order[:count]]
        for sch, _, _ in (tried[int(i)] for i in order[count:]):
            seen.discard(structural_hash(sch.mod))
        return chosen

    def _try(
        self,
        context: Any,
        sketches: list[Sketch],
        index: int,
        vector: Decisions,
        rng: np.random.Generator,
        seen: set[int],
        found: list[tuple[Any, int, Decisions]],
    ) -> None:
        seed = int(rng.integers(1, 2**31 - 1))
        schedule = apply_decisions(context, sketches[index], vector, seed)
        if schedule is None:
            return
        digest = structural_hash(schedule.mod)
        if digest in seen:
            return
        seen.add(digest)
        # as applied: what was left open has been decided now
        found.append((schedule, index, sketches[index].read(schedule.trace)))

    def _measure(self, context: Any, schedules: list[Any], best: float) -> list[Measured]:
        cutoff_s = best if np.isfinite(best) else None
        done, _, _ = measure(
            schedules,
            context,
            self.builder,
            self.runner,
            cutoff_s=cutoff_s,
            build_timeout_s=BUILD_LIMIT_S,
        )
        return done

    def _measure_again(self, context: Any, draft: _Draft) -> None:
        again = draft.fastest(REMEASURED)
        times: dict[int, list[float]] = {i: [draft.seconds[i]] for i in again}
        for _ in range(PASSES):
            done = self._measure(context, [draft.schedules[i] for i in again], np.inf)
            for index, one in zip(again, done, strict=True):
                if np.isfinite(one.run_s):
                    times[index].append(one.run_s)
        for index, found in times.items():
            draft.seconds[index] = float(np.median(found))

    def _recorded(
        self,
        subgraph: Subgraph,
        context: Any,
        families: dict[str, str],
        sketches: list[Sketch],
        draft: _Draft,
    ) -> Recorded:
        candidates = [ms.MeasureCandidate(sch, []) for sch in draft.schedules]
        batch = self.features.batch(context, candidates, subgraph.flops)
        keep = np.flatnonzero(batch.valid)
        widest = max((s.length for s in sketches), default=0)
        decisions = np.zeros((len(draft.vectors), widest), dtype=np.int32)
        for row, vector in zip(decisions, draft.vectors, strict=True):
            row[: len(vector)] = vector
        return Recorded(
            key=subgraph.key,
            name=subgraph.name,
            weight=subgraph.weight,
            flops=subgraph.flops,
            families=families,
            sketches=tuple(tuple(s.slots) for s in sketches),
            rows=batch.rows[keep],
            seconds=_column(draft.seconds, keep),
            build_s=_column(draft.build_s, keep),
            sketch=np.asarray(draft.sketch, dtype=np.int64)[keep],
            decisions=decisions[keep],
            drawn=np.asarray(draft.drawn, dtype=np.bool_)[keep],
        )


def _column(values: list[float], keep: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.asarray(values, dtype=np.float64)[keep])
