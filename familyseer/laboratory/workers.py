"""A builder and a runner that replay: any candidate gets the time that recorded ones suggest.

Search, cost models, families and the budget are those of a live run; only the machine is replaced,
by one without noise that always answers the same. So a run can be repeated to the byte, and two
policies can be compared over the whole design space instead of over a table's candidates.
"""

from __future__ import annotations

import importlib
import math
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from costmodels._candidates import CandidateFeatures
from familyseer.laboratory.clock import ReplayClock
from familyseer.laboratory.tables import NetworkTable
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule
_PyBuilder: Any = ms.builder.PyBuilder
_PyRunner: Any = ms.runner.PyRunner

BUILD_S, RUN_S = 0.15, 0.02
_TREES = 200


class Emulator:
    """Tells a candidate's seconds from its features, having learnt from recorded tables.

    Parameters
    ----------
    tables
        Recorded networks; the more like those to be tuned, the more like the machine it is.
    target
        What they were recorded for.
    """

    def __init__(self, tables: list[NetworkTable], target: Any) -> None:
        xgboost = importlib.import_module("xgboost")
        self._context = ms.TuneContext(mod=None, target=target, num_threads=1)
        self._features = CandidateFeatures()
        recorded = [one for table in tables for one in table.subgraphs]
        rows = np.concatenate([one.rows for one in recorded])
        seconds = np.concatenate([one.seconds for one in recorded])
        flops = np.concatenate([np.full(len(one), one.flops) for one in recorded])
        kept = np.isfinite(seconds)
        # efficiency and not time: it is of one size for small subgraphs and large ones
        targets = np.log2(seconds[kept] / flops[kept])
        settings = {"max_depth": 8, "eta": 0.1, "nthread": 1, "seed": 0, "tree_method": "hist"}
        matrix = xgboost.DMatrix(rows[kept], targets, nthread=1)
        self._booster = xgboost.train(settings, matrix, _TREES, verbose_eval=False)

    def seconds(self, mod: Any) -> float:
        """Seconds of one run of a scheduled subgraph."""
        flops = max(1.0, float(tvm.s_tir.analysis.estimate_tir_flops(mod)))
        candidate = ms.MeasureCandidate(tvm.s_tir.Schedule(mod), [])
        batch = self._features.batch(self._context, [candidate], flops)
        if not batch.valid[0]:
            return math.inf
        return float(flops * 2.0 ** self._booster.inplace_predict(batch.rows)[0])


@tvm.ir.utils.derived_object
class ReplayBuilder(_PyBuilder):
    """Builds nothing, at a price: takes the place of `familyseer.measure.WarmBuilder`.

    Parameters
    ----------
    emulator
        Tells what candidates take.
    clock
        Charged for each build when its result is taken.
    workers
        Threads that candidates are appraised in; what comes out does not depend on it.
    """

    def __init__(self, emulator: Emulator, clock: ReplayClock, workers: int = 1) -> None:
        super().__init__()
        self.emulator = emulator
        self.clock = clock
        self.pool = ThreadPoolExecutor(workers)
        # no file is ever made in it; names below it are what a runner is given
        self.folder = tempfile.mkdtemp(prefix="familyseer-replay-")
        self.seconds: dict[str, float] = {}

    def start(self, mod: Any, _target: Any, _timeout_s: float | None = None) -> Future[Any]:
        """Starts one build; see `finish`."""
        return self.pool.submit(self._appraise, mod)

    def _appraise(self, mod: Any) -> str:
        path = os.path.join(self.folder, subgraph_key(mod), "candidate.so")
        self.seconds[path] = self.emulator.seconds(mod)
        return path

    def finish(
        self, future: Future[Any], _time_left: Callable[[], float] = lambda: math.inf
    ) -> tuple[Any, float]:
        """Gives a build's result and the seconds it is charged with."""
        path = future.result()
        self.clock.spend(BUILD_S)
        failed = None if math.isfinite(self.seconds[path]) else "the emulator cannot read it"
        return ms.builder.BuilderResult(None if failed else path, failed), BUILD_S

    def build(self, build_inputs: list[Any]) -> list[Any]:
        """Builds all inputs, as MetaSchedule's builders do."""
        futures = [self.start(one.mod, one.target) for one in build_inputs]
        return [self.finish(future)[0] for future in futures]

    def resize(self, workers: int) -> None:
        """Lets workers join or leave; what was started is finished first."""
        self.pool.shutdown()
        self.pool = ThreadPoolExecutor(workers)

    def close(self) -> None:
        """Stops the threads."""
        self.pool.shutdown()
        os.rmdir(self.folder)


@tvm.ir.utils.derived_object
class ReplayRunner(_PyRunner):
    """Answers with the builder's seconds: takes the place of `familyseer.measure.WarmRunner`.

    Parameters
    ----------
    builder
        The builder whose candidates are run.
    """

    def __init__(self, builder: Any) -> None:
        super().__init__()
        self.builder = builder

    def start(
        self, path: str, _device_type: str, _args_info: Any, _cutoff_s: float | None = None
    ) -> Future[Any]:
        """Starts one run; see `finish`."""
        future: Future[Any] = Future()
        future.set_result(self.builder.seconds[path])
        return future

    def finish(
        self, future: Future[Any], _time_left: Callable[[], float] = lambda: math.inf
    ) -> Any:
        """Gives a run's result and charges for it."""
        self.builder.clock.spend(RUN_S)
        return ms.runner.RunnerResult([future.result()] * 3, None)

    def close(self) -> None:
        """Nothing is held."""
