"""Exported SpAMM kernels on a GPU; skipped where there is none, or no PyCUDA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spamm
from familyseer.export.kernels import export_kernels
from familyseer.kernels import load
from spamm.cuda._space import default
from spamm.generators import exponential_decay
from tests.familyseer.kernels.test_spamm_library import out_of, right
from tests.gpu.test_kernel_libraries import gpu_arch

M, K, N = 1000, 904, 1112
BLOCK = 64, 32, 64
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.2e-2, "float32": 1e-5}


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_exported_kernel_multiplies_what_a_plan_keeps(
    dtype: str, split: int, tmp_path: Path
) -> None:
    arch = gpu_arch()
    out = dtype if split == 1 else "float32"
    config = {**default(dtype, arch, BLOCK, out=out).to_dict(), "split_k": split}
    target = json.dumps({"kind": "cuda", "arch": arch, "host": {"kind": "llvm"}})
    run = out_of(tmp_path / "out", target, dtype, config, shape=(M, K, N))
    export_kernels(run, tmp_path / "library")
    library = load(tmp_path / "library")
    kernel = library[library.names[0]]
    a, b = operands(dtype)
    plan = spamm.plan(a, b, valid_ratio=0.2, block=BLOCK, backend="numpy")
    assert isinstance(plan, spamm.Plan)
    found, expected = kernel(a, b, plan.offsets, plan.ks), right(plan, a, b)
    # NumPy alone has no bfloat16
    found = found.view(b.dtype) if found.dtype == np.uint16 else found
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= TOLERANCE[dtype] * np.abs(expected).max()


def operands(dtype: str) -> tuple[Any, Any]:
    a, b = (exponential_decay(1112, base=0.97, seed=seed, dtype=dtype) for seed in (0, 1))
    return np.ascontiguousarray(a[:M, :K]), np.ascontiguousarray(b[:K, :N])
