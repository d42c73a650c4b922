"""Products as libraries of kernels have them: the launches alone, on a plan's arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spamm
from spamm.cuda._compile import compile_cubin, resources
from spamm.cuda._config import MultiplyConfig
from spamm.cuda._space import default
from spamm.cuda._whole import fixed, product_program
from spamm.generators import exponential_decay
from tests.spamm.cuda.emulator import needs_compiler, run_program

SHAPE = 130, 104, 100
BLOCK = 32, 32, 32


def config_of(**changes: Any) -> MultiplyConfig:
    wide = MultiplyConfig("float16", "float16", "tensor", BLOCK, (64, 64, 32), (2, 2), 2)
    return fixed(replace(wide, **changes), SHAPE)


@needs_compiler
@pytest.mark.parametrize(
    "changes", [{}, {"out": "float32", "split_k": 2}, {"tile": (32, 64, 32), "warps": (1, 2)}]
)
def test_the_launches_compute_what_the_plan_keeps(changes: dict[str, Any]) -> None:
    m, k, n = SHAPE
    config = config_of(**changes)
    a = exponential_decay(m, base=0.9, seed=0, dtype="float16")[:, :k].copy()
    b = exponential_decay(m, base=0.9, seed=1, dtype="float16")[:k, :n].copy()
    plan = spamm.plan(a, b, valid_ratio=0.4, block=BLOCK, backend="numpy")
    assert isinstance(plan, spamm.Plan)
    c = np.full((m, n), np.nan, config.out)
    inputs = {"a": a, "b": b, "c": c, "offsets": plan.offsets, "ks": plan.ks}
    found = run_program(product_program(config, SHAPE), inputs, seed=1)["c"]
    right = spamm.multiply(plan, a, b, backend="numpy", out=np.empty((m, n), np.float32))
    np.testing.assert_allclose(found.astype(np.float32), right, rtol=2e-3, atol=2e-3)


def test_loads_are_as_wide_as_the_rows_allow() -> None:
    assert config_of().vector == 8, "rows of B are 200 bytes"
    assert fixed(config_of(vector=16), (130, 104, 101)).vector == 2
    assert not config_of(persistent=True).persistent


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_kernels_compile_without_spills(dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    shape = (1024, 1024, 1024)
    config = fixed(default(dtype, "sm_90", (64, 64, 64), out=dtype), shape)
    program = product_program(config, shape)
    used = resources(compile_cubin(program.source, "sm_90", cache=tmp_path))
    assert set(used) == {launch.kernel for launch in program.launches}
    assert not any(one.spills for one in used.values())
