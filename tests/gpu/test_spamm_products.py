"""SpAMM's kernels on a real GPU, against NumPy in float64.

The same code runs on emulated GPUs in ``tests/spamm/cuda``; what only a GPU shows is here: PyCUDA,
compiled kernels, sizes with many thread blocks, streams.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import spamm
from spamm._arrays import rounded_to_tf32

pytestmark = pytest.mark.usefixtures("spamm_gpu")

Array = npt.NDArray[Any]
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
# of the largest element: the rounding of the result, and of some thousand sums in float32
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.2e-2, "float32": 1e-5}


def decaying(m: int, n: int, dtype: Any, seed: int = 0, rate: float = 0.97) -> Array:
    distance = np.abs(np.subtract.outer(np.arange(m) * n / m, np.arange(n)))
    noise = np.random.default_rng(seed).uniform(-1, 1, (m, n))
    return (rate**distance * noise).astype(dtype)


def exact(a: Array, b: Array) -> Array:
    return a.astype(np.float64) @ b.astype(np.float64)


def kept_only(a: Array, b: Array, plan: spamm.Plan) -> Array:
    wide = (each.astype(np.float64) for each in (a, b))
    return spamm.multiply(plan, *wide, backend="numpy")


def check(got: Array, expected: Array, dtype: str) -> None:
    error = np.abs(got.astype(np.float64) - expected).max()
    assert error <= TOLERANCE[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1024, 1024, 1024), (1000, 777, 1301), (64, 4096, 72)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_every_type_size_and_ratio(dtype: str, shape: tuple[int, int, int], ratio: float) -> None:
    m, k, n = shape
    a, b = decaying(m, k, DTYPES[dtype]), decaying(k, n, DTYPES[dtype], 1)
    plan = spamm.plan(a, b, valid_ratio=ratio, backend="cuda")
    assert isinstance(plan, spamm.Plan)
    assert abs(plan.valid_ratio - ratio) <= max(0.01, 1 / plan.blocks_total)
    norms = spamm.block_norms(a, *plan.block[:2])
    np.testing.assert_allclose(plan.norms_a, norms, rtol=1e-5)
    expected = kept_only(a, b, plan)
    check(spamm.multiply(plan, a, b, backend="cuda"), expected, dtype)
    wide = np.empty((m, n), np.float64)
    spamm.matmul(a, b, valid_ratio=ratio, backend="cuda", out=wide)
    check(wide, expected, "float32")


@pytest.mark.parametrize("block", [(32, 16, 32), (64, 64, 128), (256, 32, 256)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_block(dtype: str, block: tuple[int, int, int]) -> None:
    a, b = decaying(520, 392, DTYPES[dtype]), decaying(392, 456, DTYPES[dtype], 1)
    plan = spamm.plan(a, b, tau=1e-2, block=block, backend="cuda")
    host = spamm.build_plan(plan.norms_a, plan.norms_b, plan.shape, block, plan.tau)
    np.testing.assert_array_equal(plan.offsets, host.offsets)
    np.testing.assert_array_equal(plan.ks, host.ks)
    check(spamm.multiply(plan, a, b, backend="cuda"), kept_only(a, b, plan), dtype)


def test_tf32() -> None:
    a, b = decaying(512, 512, np.float32), decaying(512, 512, np.float32, 1)
    got = spamm.matmul(a, b, tau=0.0, backend="cuda", precision="tf32")
    check(got, exact(rounded_to_tf32(a), rounded_to_tf32(b)), "float32")


def test_layouts_and_batches() -> None:
    a = np.stack([decaying(200, 160, np.float32, seed) for seed in range(3)])
    b = np.asfortranarray(decaying(160, 240, np.float32, 9))
    got = spamm.matmul(a, b, tau=0.0, backend="cuda")
    for index in range(3):
        check(got[index], exact(a[index], b), "float32")
    out = np.empty((240, 200), np.float32).T
    spamm.matmul(a[0, ::-1, ::2], b[::2], tau=0.0, backend="cuda", out=out)
    check(out, exact(a[0, ::-1, ::2], b[::2]), "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_relative_error_is_guaranteed(dtype: str) -> None:
    a, b = decaying(640, 640, DTYPES[dtype]), decaying(640, 640, DTYPES[dtype], 1)
    out = np.empty((640, 640), np.float32)
    spamm.matmul(a, b, max_rel_error=1e-3, backend="cuda", out=out)
    assert np.linalg.norm(out - exact(a, b)) <= 1e-3 * np.linalg.norm(exact(a, b))


def test_what_is_not_finite_is_kept() -> None:
    a = decaying(256, 256, np.float16)
    a[200, 3] = np.nan
    assert np.isnan(spamm.matmul(a, a, tau=1e30, backend="cuda")[200]).all()


def test_plans_are_used_again_and_refreshed() -> None:
    a, b = decaying(512, 512, np.float32), decaying(512, 512, np.float32, 1)
    plan = spamm.plan(a, b, valid_ratio=0.2, backend="cuda")
    refreshed = plan.refresh(a * np.float32(1.0001), b, backend="cuda")
    assert refreshed.reused
    results = [spamm.multiply(each, a, b, backend="cuda") for each in (plan, refreshed, plan)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_every_gpu_shares_the_work(spamm_gpu: int) -> None:
    if spamm_gpu < 2:
        pytest.skip("this machine has one GPU")
    a, b = decaying(2048, 2048, np.float16), decaying(2048, 2048, np.float16, 1)
    alone = spamm.matmul(a, b, valid_ratio=0.2, backend="cuda")
    shared = spamm.matmul(a, b, valid_ratio=0.2, devices=range(spamm_gpu))
    check(shared, alone.astype(np.float64), "float16")


def test_threads_of_the_host_may_call_at_the_same_time() -> None:
    a = decaying(512, 512, np.float32)
    expected, failed = exact(a, a), []

    def work() -> None:
        try:
            for _ in range(5):
                check(spamm.matmul(a, a, tau=0.0, backend="cuda"), expected, "float32")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_too_large_a_product_is_refused_in_one_line() -> None:
    cupy = pytest.importorskip("cupy")
    total = cupy.cuda.runtime.memGetInfo()[1]
    rows = 1 << 17
    like = cupy.zeros((1, 64), cupy.float16)
    wide = cupy.broadcast_to(like, (rows, 64))
    tall = cupy.broadcast_to(like.T, (64, total // rows))
    with pytest.raises(RuntimeError, match=r"^backend: no memory on GPU 0 for a result"):
        spamm.matmul(wide, tall, tau=0.0)


SMALL = """
import ml_dtypes
import numpy as np
import spamm
rng = np.random.default_rng(0)
for dtype in (np.float16, ml_dtypes.bfloat16, np.float32):
    a = rng.standard_normal((200, 170)).astype(dtype)
    b = rng.standard_normal((170, 130)).astype(dtype)
    for criterion in ({"tau": 100.0}, {"valid_ratio": 0.5}, {"max_rel_error": 0.1}):
        got = spamm.matmul(a, b, **criterion, block=(32, 16, 32), backend="cuda")
        assert np.isfinite(got.astype(np.float64)).all()
    full = spamm.matmul(a, np.asfortranarray(b), tau=0.0, backend="cuda")
    wide = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(full - wide).max() < 0.3
"""


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not on the path")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_process_ends_as_it_should() -> None:
    # PyCUDA ends one that leaves a context current
    done = subprocess.run(
        [sys.executable, "-c", SMALL], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "PyCUDA" not in done.stderr
