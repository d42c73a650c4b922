"""CUDA kernel libraries on a GPU; skipped where there is none, or no PyCUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.kernels import load, measure_multiprocessors
from tests.familyseer.kernels.finished_run import (
    HOPPER,
    finished_run,
    row_softmax,
    rows_to_blocks,
    shared_rows,
)

Rows = tuple[Any, Any, Any]
SOFTMAX = "fused_matmul_softmax"


def gpu_arch() -> str:
    """Architecture of the first GPU; skips where PyCUDA sees none."""
    try:
        from pycuda import driver
    except ImportError as error:
        pytest.skip(f"no PyCUDA: {error}")
    try:
        driver.init()
        major, minor = driver.Device(0).compute_capability()
    except driver.Error as error:
        pytest.skip(f"no GPU: {error}")
    return f"sm_{major}{minor}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch = gpu_arch()
    from familyseer.export.kernels import export_kernels
    from familyseer.tvm_env import load_tvm

    folder = tmp_path_factory.mktemp("gpu")
    records = [(row_softmax(), [(rows_to_blocks, 2e-5), (shared_rows, 1e-5)])]
    finished_run(folder / "out", load_tvm().target.Target({**HOPPER, "arch": arch}), records)
    export_kernels(folder / "out", folder / "library")
    return folder / "library"


def test_numpy_arrays_and_arrays_on_the_gpu_give_the_subgraphs_output(
    library: Path, rows: Rows
) -> None:
    import pycuda.autoprimaryctx  # noqa: F401
    from pycuda import driver, gpuarray

    a, b, expected = rows
    kernel = load(library)[SOFTMAX]
    np.testing.assert_allclose(kernel(a, b), expected, rtol=1e-4)
    inputs = gpuarray.to_gpu(a), gpuarray.to_gpu(b)
    np.testing.assert_allclose(kernel(*inputs).get(), expected, rtol=1e-4)
    out, stream = gpuarray.zeros((24, 40), "float32"), driver.Stream()
    driver.Context.synchronize()
    assert kernel(*inputs, out, stream=stream) is out
    stream.synchronize()
    np.testing.assert_allclose(out.get(), expected, rtol=1e-4)


ALONE = """
import sys
import numpy as np
from familyseer.kernels import load
a, b = np.ones((24, 48), "float32"), np.ones((48, 40), "float32")
assert np.allclose(load(sys.argv[1])["fused_matmul_softmax"](a, b), 1 / 40)
assert "tvm" not in sys.modules
"""


def test_pycuda_alone_runs_a_library(library: Path) -> None:
    subprocess.run([sys.executable, "-c", ALONE, str(library)], check=True, timeout=120)


def test_the_fewest_multiprocessors_are_measured_and_noted(library: Path) -> None:
    pytest.importorskip("cuda.bindings.driver")
    before = load(library).names
    found = measure_multiprocessors(library)
    noted = json.loads((library / "manifest.json").read_text())["kernels"][0]["multiprocessors"]
    if found[SOFTMAX] is None:
        pytest.skip(f"this driver cannot confine kernels: {noted['reason']}")
    assert noted["fewest"] == found[SOFTMAX]
    assert 0 < found[SOFTMAX] <= noted["of"]
    assert load(library).names == before
