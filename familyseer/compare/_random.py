"""Random search: every subgraph in turn, candidates by chance, with our warm workers.

With the same engine as ours it shows what the search itself is worth.
"""

from __future__ import annotations

import math
from typing import Any

from familyseer.compare._ledger import Ledger
from familyseer.compare._workers import gpus_used, warm_workers
from familyseer.machine import available_cores
from familyseer.measure._measure import measure
from familyseer.measure._timing import expect_model
from familyseer.search._proposals import Proposals, new_context
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule

ROUND_TRIALS = 8


def tune_random(target: Any, ledger: Ledger, seed: int) -> None:
    """Measures random candidates, round-robin over the subgraphs, until time is up."""
    database, model = ms.database.MemoryDatabase(), ms.cost_model.RandomModel(seed=seed)
    with warm_workers(target) as (builder, runner):
        subgraphs = list(ledger.subgraphs.values())
        expect_model(runner, subgraphs)
        contexts = [new_context(s, target, seed, available_cores()) for s in subgraphs]
        proposals = [Proposals(c, database, model, None) for c in contexts]
        finished: set[int] = set()
        while ledger.left_s() > 0 and len(finished) < len(subgraphs):
            for i, subgraph in enumerate(subgraphs):
                if ledger.left_s() <= 0 or i in finished:
                    continue
                schedules, _ = proposals[i].propose(
                    ROUND_TRIALS, elite=[], evolve=False, time_for_search_s=math.inf
                )
                if not schedules:
                    finished.add(i)
                    continue
                done, _, _ = measure(
                    schedules,
                    contexts[i],
                    builder,
                    runner,
                    time_left=ledger.left_s,
                    cutoff_s=ledger.best_s.get(subgraph.key),
                )
                for one in done:
                    ledger.record(subgraph.key, one.candidate.sch.mod, one.run_s)
        for one_proposals in proposals:
            one_proposals.close()
        ledger.gpus = gpus_used(runner)
