"""Kernel libraries as `familyseer export` writes them, one a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.familyseer.kernels.finished_run import (
    HOPPER,
    doubled,
    finished_run,
    parallel,
    row_softmax,
    rows_to_blocks,
    shared_rows,
)


@pytest.fixture(scope="session")
def cpu_out(cpu: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run on this machine's CPU."""
    records = [
        (row_softmax(), [(parallel, 3e-3)]),
        (doubled("bfloat16", "cast"), [(parallel, 1e-6)]),
        (doubled("float16", "half"), [(parallel, 1e-6)]),
        (doubled("float32", "tanh"), [(parallel, 1e-6)]),
    ]
    return finished_run(tmp_path_factory.mktemp("cpu") / "out", cpu, records)


@pytest.fixture(scope="session")
def cpu_library(cpu_out: Path) -> Path:
    """Its kernels."""
    from familyseer.export.kernels import export_kernels

    folder = cpu_out.parent / "library"
    export_kernels(cpu_out, folder)
    return folder


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of a run for a GPU that is not here."""
    from familyseer.export.kernels import export_kernels
    from familyseer.tvm_env import load_tvm

    folder = tmp_path_factory.mktemp("cuda")
    records = [
        (row_softmax(), [(rows_to_blocks, 2e-5), (shared_rows, 1e-5)]),
        (doubled("bfloat16", "cast"), [(rows_to_blocks, 1e-6)]),
    ]
    finished_run(folder / "out", load_tvm().target.Target(HOPPER), records)
    export_kernels(folder / "out", folder / "library")
    return folder / "library"


@pytest.fixture
def rows() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Inputs of `row_softmax`, and its output computed by NumPy."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((24, 48)).astype("float32")
    b = rng.standard_normal((48, 40)).astype("float32")
    exponentials = np.exp(a.astype("float64") @ b.astype("float64"))
    return a, b, (exponentials / exponentials.sum(1, keepdims=True)).astype("float32")
