"""A few seconds of a real run, thrown away: subgraphs as they are, then rounds of candidates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from familyseer.families import Family
from familyseer.measure import WarmBuilder, WarmRunner
from familyseer.measure._measure import device_type, measure
from familyseer.options import TuneOptions
from familyseer.progress import Observer
from familyseer.run._runners import make_runner
from familyseer.run._session import make_rounds
from familyseer.search import Clock, Rounds, TaskState
from familyseer.search._loop import FIRST_PASS_TRIALS, ROUND_TRIALS
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm

# of the time, for subgraphs as they are; the rest is for candidates
_AS_THEY_ARE_SHARE = 0.6
# with less left, a round of candidates would be cut short and tell nothing
_LEAST_ROUND_S = 1.0


@dataclass
class Probe:
    """What was found out.

    Attributes
    ----------
    untuned_s
        Seconds of one run of a subgraph as it is, by its index; those measured alone.
    builds, builds_s
        Subgraphs built as they are, and the seconds of all those builds together.
    candidates, candidates_s, subgraphs
        Candidates measured, the wall-clock seconds that all of it took, and of how many subgraphs.
    failed
        Candidates that failed to build or to run.
    flops_s
        Operations a second of the candidate that reached most: the machine can do that at least.
    """

    untuned_s: dict[int, float] = field(default_factory=dict)
    builds: int = 0
    builds_s: float = 0.0
    candidates: int = 0
    candidates_s: float = 0.0
    subgraphs: int = 0
    failed: int = 0
    flops_s: float = 0.0


def probe(
    options: TuneOptions,
    subgraphs: Sequence[Subgraph],
    families: Sequence[Family],
    target: Any,
    time_s: float,
    say: Callable[[str], None] = lambda _text: None,
) -> Probe:
    """Measures on this machine for some seconds; nothing is kept.

    Parameters
    ----------
    subgraphs, families
        Of the model.
    time_s
        Wall-clock seconds that it may take, about.
    say
        Told what is being measured.
    """
    found = Probe()
    clock = Clock(time_s)
    # the intrinsics that both builds and candidates ask for; counted, since a run pays for it too
    load_tvm(intrinsics=True)
    with ExitStack() as stack:
        builder = WarmBuilder(workers=options.workers)
        stack.callback(builder.close)
        local = WarmRunner()
        stack.callback(local.close)
        if device_type(target) == "cpu":
            say("measuring subgraphs as they are")
            heaviest = sorted(subgraphs, key=lambda s: -s.flops * s.weight)
            until = clock.now() + _AS_THEY_ARE_SHARE * clock.tuning_left_s()
            _measure_as_they_are(found, heaviest, target, builder, local, until)
        builder.vector_math = not options.exact_math
        say("measuring candidates")
        runner = make_runner(options, target, local, clock, stack, Observer())
        rounds = _make_rounds(options, subgraphs, families, target, clock, builder, runner)
        stack.callback(rounds.close)
        _measure_candidates(found, rounds)
    return found


def _measure_as_they_are(
    found: Probe,
    subgraphs: Sequence[Subgraph],
    target: Any,
    builder: WarmBuilder,
    runner: WarmRunner,
    until: float,
) -> None:
    """Builds the heaviest first, and then times what is built: building disturbs what is timed."""
    building = [(s, builder.start(s.mod, target)) for s in subgraphs]
    done: list[tuple[Subgraph, Any]] = []
    built_until = until
    for subgraph, build in building:
        while not build.done() and time.monotonic() < built_until:
            time.sleep(0.01)
        if not build.done():
            builder.drop(build)
            continue
        if not done:
            # workers take a while to start; of what is left, half for building
            built_until = (time.monotonic() + until) / 2
        done.append((subgraph, build))
    context = SimpleNamespace(target=target)
    schedule = load_tvm().s_tir.Schedule
    for subgraph, build in done:
        if time.monotonic() >= until:
            builder.drop(build)
            continue
        measured, _, _ = measure(
            [schedule(subgraph.mod)],
            context,
            builder,
            runner,
            time_left=lambda: until - time.monotonic(),
            builds=[build],
        )
        for one in measured:
            if not one.build_failed:
                found.builds += 1
                found.builds_s += one.build_s
            if math.isfinite(one.run_s):
                found.untuned_s[subgraph.index] = one.run_s


def _make_rounds(
    options: TuneOptions,
    subgraphs: Sequence[Subgraph],
    families: Sequence[Family],
    target: Any,
    clock: Clock,
    builder: Any,
    runner: Any,
) -> Rounds:
    """Rounds of the heaviest subgraph of each family, the heaviest family first."""
    by_index = {s.index: s for s in subgraphs}
    heads = [
        max((by_index[i] for i in family.members), key=lambda s: s.flops * s.weight)
        for family in families
    ]
    return make_rounds(
        options,
        heads,
        families,
        target,
        clock=clock,
        database=load_tvm().s_tir.meta_schedule.database.MemoryDatabase(),
        builder=builder,
        runner=runner,
        max_trials=None,
    )


def _measure_candidates(found: Probe, rounds: Rounds) -> None:
    """A first round of each subgraph, then longer ones, as long as there is time."""
    for kind, count in (("first", FIRST_PASS_TRIALS), ("steepest", ROUND_TRIALS)):
        for state in rounds.states:
            if rounds.clock.tuning_left_s() < _LEAST_ROUND_S:
                return
            _measure_round(found, rounds, state, kind, count)


def _measure_round(found: Probe, rounds: Rounds, state: TaskState, kind: str, count: int) -> None:
    began = rounds.clock.now()
    plan = rounds.plan(state, kind, count)
    done = rounds.carry_out(plan) if plan.schedules else []
    if not done:
        return
    found.candidates += len(done)
    found.candidates_s += rounds.clock.now() - began
    found.failed += sum(one.build_failed or one.run_failed for one in done)
    found.subgraphs += kind == "first"
    reached = [state.subgraph.flops / one.run_s for one in done]
    found.flops_s = max(found.flops_s, *reached)
