"""Stock MetaSchedule, left as it is, watched from inside its own builder, runner and model.

Its gradient scheduler joins no result before its first pass over all subgraphs is over, so its
database says nothing about a short run. The stock runner is asked for one candidate at a time, as
it runs them anyway, ours for all at once; each result is written down when it is there.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from familyseer.compare._ledger import Ledger
from familyseer.measure._measure import median_run_s
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm

tvm = load_tvm(intrinsics=True)
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_XGBModel: Any = ms.cost_model.XGBModel._cls
_PyBuilder: Any = ms.builder.PyBuilder
_PyRunner: Any = ms.runner.PyRunner
derived_object = tvm.ir.utils.derived_object


@derived_object
class _Model(_XGBModel):
    """The stock model; the subgraph that it was asked about last is the one being tuned."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(num_tuning_cores=None)
        self.ledger = ledger
        self.current = ""

    def predict(self, context: Any, candidates: list[Any]) -> Any:
        self.ledger.check()
        self.current = subgraph_key(context.mod)
        return super().predict(context, candidates)


@derived_object
class _Builder(_PyBuilder):
    def __init__(self, ledger: Ledger, stock: Any) -> None:
        super().__init__()
        self.ledger = ledger
        self.stock = stock
        self.mods: dict[str, Any] = {}

    def build(self, build_inputs: list[Any]) -> list[Any]:
        self.ledger.check()
        results = self.stock.build(build_inputs)
        for one, result in zip(build_inputs, results, strict=True):
            if result.error_msg is None:
                self.mods[str(result.artifact_path)] = one.mod
        return list(results)


@derived_object
class _Runner(_PyRunner):
    def __init__(self, ledger: Ledger, builder: Any, model: Any, stock: Any) -> None:
        super().__init__()
        self.ledger = ledger
        self.builder = builder
        self.model = model
        self.stock = stock

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        at_once = hasattr(self.stock, "start")
        started = self.stock.run(list(runner_inputs)) if at_once else None
        futures = []
        for i, one in enumerate(runner_inputs):
            self.ledger.check()
            future = self.stock.run([one])[0] if started is None else started[i]
            futures.append(future)
            result = future.result()
            mod = self.builder.mods.pop(str(one.artifact_path), None)
            run_s = median_run_s(result.run_secs) if result.run_secs else float("inf")
            self.ledger.record(self.model.current, mod, run_s)
        return futures


def _stock_workers() -> tuple[Any, Any]:
    return ms.builder.LocalBuilder(max_workers=None), ms.runner.LocalRunner()


def tune_stock(
    fused: Any, target: Any, work_dir: str, ledger: Ledger, seed: int, *, warm: bool = False
) -> None:
    """Tunes with MetaSchedule's own `tune_relax`, its defaults untouched, until time is up.

    Parameters
    ----------
    warm
        Build and run candidates with our warm workers instead of stock's, so that a comparison
        with our tuner is one of the searches alone.
    """
    from familyseer.compare._workers import gpus_used, warm_workers
    from familyseer.measure._measure import device_type
    from familyseer.measure._timing import expect_model

    model = _Model(ledger)
    with warm_workers(target) if warm else nullcontext(_stock_workers()) as (builds, runs):
        expect_model(runs, list(ledger.subgraphs.values()))
        builder = _Builder(ledger, builds)
        try:
            ms.relax_integration.tune_relax(
                fused,
                {},
                target,
                work_dir,
                max_trials_global=1 << 30,
                builder=builder,
                runner=_Runner(ledger, builder, model, runs),
                cost_model=model,
                seed=seed + 1,
            )
        except Exception:
            # TVM hands our exception back as an error of its own, so the ledger is asked instead
            if not ledger.ended:
                raise
        on_gpu = device_type(target) == "cuda"
        # the stock runner times on the first GPU, whatever there is
        ledger.gpus = gpus_used(runs) if warm else int(ledger.trials > 0) if on_gpu else None
