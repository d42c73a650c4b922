"""Real candidates: recorded measurements of a CPU, and freshly proposed ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodels.features import Batch, aggregate
from costmodels.prior import Hardware
from familyseer.tvm_env import load_tvm

RECORDED_ON = Hardware(cores=2, vector_bytes=64)


@dataclass(frozen=True)
class Recorded:
    """80 random candidates of a subgraph, measured on 2 cores with AVX-512."""

    stores: list[np.ndarray]
    seconds: np.ndarray
    flops: float

    def batch(self) -> Batch:
        return aggregate(self.stores, RECORDED_ON, self.flops)


@pytest.fixture(scope="session")
def recorded() -> dict[str, Recorded]:
    """Measurements by subgraph."""
    with np.load(Path(__file__).parent / "data" / "measured_cpu.npz", allow_pickle=False) as data:
        names = [name.removesuffix(".flops") for name in data.files if name.endswith(".flops")]
        return {
            name: Recorded(
                np.split(data[f"{name}.stores"], np.cumsum(data[f"{name}.counts"])[:-1]),
                data[f"{name}.seconds"].astype(np.float64),
                float(data[f"{name}.flops"]),
            )
            for name in names
        }


def result(seconds: float | None) -> Any:
    """A runner's result: one time, or a failure."""
    runner_result = load_tvm().s_tir.meta_schedule.runner.RunnerResult
    if seconds is None:
        return runner_result(None, "it did not run")
    return runner_result([float(seconds)], None)


@pytest.fixture(scope="session")
def proposed(make_dense: Any) -> Any:
    """Gives a tuning context of a small product and 56 random candidates of it."""
    cache: dict[str, tuple[Any, list[Any]]] = {}

    def propose(kind: str = "llvm", extent: int = 64) -> tuple[Any, list[Any]]:
        name = f"{kind}{extent}"
        if name not in cache:
            cache[name] = _propose(kind, make_dense(extent, extent, extent).mod)
        return cache[name]

    return propose


def target_of(kind: str) -> Any:
    tvm = load_tvm()
    if kind == "llvm":
        return tvm.target.Target({"kind": "llvm", "num-cores": 2})
    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": "sm_80",
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "host": {"kind": "llvm"},
        }
    )


def make_context(kind: str, mod: Any) -> Any:
    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    return ms.TuneContext(
        mod=mod,
        target=target_of(kind),
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.EvolutionarySearch(
            population_size=64, init_min_unmeasured=32, genetic_num_iters=1
        ),
        task_name="product",
        rand_state=1,
        num_threads=1,
    )


def _propose(kind: str, mod: Any) -> tuple[Any, list[Any]]:
    ms = load_tvm().s_tir.meta_schedule
    context = make_context(kind, mod)
    context.pre_tuning(
        1000,
        64,
        context.generate_design_space(),
        ms.database.MemoryDatabase(),
        ms.cost_model.RandomModel(seed=1),
    )
    candidates = list(context.generate_measure_candidates())
    # the search drops duplicates, so it gives somewhat fewer than it was asked for
    assert len(candidates) >= 56
    return context, candidates[:56]
