"""The plugin side: only TVM's public interface around our nouns."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.tvm_env import load_tvm

SOURCE = """
# from tvm.script import ir as I
# from tvm.script import relax as R
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((16, 64), "float32"), w: R.Tensor((64, 32), "float32")):
        with R.dataflow():
            y = R.matmul(x, w)
            z = R.nn.relu(y)
            s = R.sum(z, axis=[1])
            R.output(s)
        return s
"""


@pytest.fixture(autouse=True)
def tvm_logging_as_new() -> Iterator[None]:
    """TVM stops its logger's propagation, and pytest then hangs a handler without a name on it,
    which TVM's next set-up of its loggers trips over."""
    logger = logging.getLogger("tvm.s_tir.meta_schedule")
    logger.handlers.clear()
    logger.propagate = True
    yield
    logger.propagate = True


@pytest.fixture
def module() -> Any:
    return load_tvm(intrinsics=True).script.from_source(SOURCE)


@pytest.fixture
def lowered(module: Any, cpu: Any) -> Any:
    with cpu:
        return load_tvm().relax.get_pipeline("zero")(module)


def check_library(mod: Any, target: Any) -> None:
    tvm = load_tvm()
    vm = tvm.relax.VirtualMachine(tvm.compile(mod, target), tvm.cpu())
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype("float32") for shape in ((16, 64), (64, 32)))
    got = vm["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(w)).numpy()
    np.testing.assert_allclose(got, np.maximum(x @ w, 0).sum(axis=1), rtol=1e-4, atol=1e-4)


def test_tune_relax_is_a_drop_in(lowered: Any, cpu: Any, tmp_path: Path) -> None:
    import familyseer

    tvm = load_tvm()
    database = familyseer.tune_relax(lowered, {}, cpu, str(tmp_path), max_trials_global=12, seed=1)
    assert 2 <= len(database) <= 12
    with cpu:
        applied = tvm.relax.transform.MetaScheduleApplyDatabase(str(tmp_path))(lowered)
    check_library(applied, cpu)


def test_tune_relax_keeps_a_budget(lowered: Any, cpu: Any, tmp_path: Path) -> None:
    import time

    import familyseer

    began = time.monotonic()
    database = familyseer.tune_relax(lowered, {}, cpu, str(tmp_path), budget_s=6)
    assert time.monotonic() - began < 6 + 10
    assert len(database) > 0


def test_tune_relax_wants_a_limit(lowered: Any, cpu: Any, tmp_path: Path) -> None:
    import familyseer

    with pytest.raises(ValueError, match="expected at least one"):
        familyseer.tune_relax(lowered, {}, cpu, str(tmp_path))


def test_scheduler_and_cost_model_work_in_stock_tune_tasks(
    lowered: Any, cpu: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from costmodels import FamilyCostModel
    from familyseer import FamilyTaskScheduler, WarmBuilder

    builder = WarmBuilder()
    request.addfinalizer(builder.close)
    ms = load_tvm().s_tir.meta_schedule
    extracted = ms.relax_integration.extract_tasks(lowered, cpu)
    tasks, weights = ms.relax_integration.extracted_tasks_to_tune_contexts(
        extracted, str(tmp_path), seed=3
    )
    calls: list[int] = []

    @load_tvm().ir.utils.derived_object
    class Count(ms.measure_callback.PyMeasureCallback):
        def apply(self, scheduler: Any, task: int, candidates: Any, *_results: Any) -> None:
            calls.append(len(candidates))

    database = ms.tune_tasks(
        tasks=tasks,
        task_weights=weights,
        work_dir=str(tmp_path),
        max_trials_global=6,
        num_trials_per_iter=4,
        task_scheduler=FamilyTaskScheduler(),
        cost_model=FamilyCostModel(),
        # stock's own would import TVM's intrinsics anew each round, for half a minute
        builder=builder,
        runner="local",
        measure_callbacks=[ms.measure_callback.AddToDatabase(), Count()],
    )
    assert sum(calls) == len(database) == 6
    assert all(database.has_workload(task.mod) for task in tasks)


def test_the_cost_model_works_under_the_stock_scheduler(
    lowered: Any, cpu: Any, tmp_path: Path
) -> None:
    from costmodels import FamilyCostModel
    from familyseer import WarmBuilder, WarmRunner

    ms = load_tvm().s_tir.meta_schedule
    model, builder, runner = FamilyCostModel(), WarmBuilder(), WarmRunner()
    try:
        database = ms.relax_integration.tune_relax(
            lowered,
            {},
            cpu,
            str(tmp_path),
            max_trials_global=16,
            num_trials_per_iter=4,
            builder=builder,
            runner=runner,
            cost_model=model,
            strategy=ms.search_strategy.EvolutionarySearch(
                population_size=16, init_min_unmeasured=4, genetic_num_iters=1
            ),
        )
    finally:
        builder.close()
        runner.close()
    assert len(database) > 0
    assert sum(model.samples(family) for family in model.families()) > 0


def test_the_pipeline_is_registered(module: Any, cpu: Any, tmp_path: Path) -> None:
    import familyseer

    assert familyseer.__version__
    pipeline = load_tvm().relax.get_pipeline(
        "familyseer", target=cpu, work_dir=str(tmp_path), total_trials=6
    )
    check_library(pipeline(module), cpu)
    assert (tmp_path / "database_tuning_record.json").read_text().count("\n") == 6


@pytest.mark.parametrize("exact", [False, True])
def test_the_pipeline_computes_exp_in_vectors_unless_told_not_to(
    softmax_model: Any, cpu: Any, tmp_path: Path, exact: bool
) -> None:
    relax = load_tvm().relax
    pipeline = relax.get_pipeline(
        "familyseer", target=cpu, work_dir=str(tmp_path), total_trials=2, exact_math=exact
    )
    tuned = pipeline(softmax_model)
    assert ("T.exp" in tuned.script()) == exact
    x = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    vm = relax.VirtualMachine(load_tvm().compile(tuned, cpu), load_tvm().cpu())
    powers = np.exp(x.astype(np.float64))
    got = vm["main"](load_tvm().runtime.tensor(x)).numpy()
    np.testing.assert_allclose(got, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("first", ["familyseer", "tvm"])
def test_the_pipeline_is_registered_whatever_is_imported_first(first: str) -> None:
    second = {"familyseer": "tvm", "tvm": "familyseer"}[first]
    code = f"import {first}, {second}; from tvm import relax; relax.get_pipeline"
    code += "('familyseer', target='llvm', total_trials=0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_familyseer_loads_no_tvm() -> None:
    code = "import familyseer, sys; assert 'tvm' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
