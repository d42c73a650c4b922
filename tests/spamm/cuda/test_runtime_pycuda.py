"""What the runtime asks of PyCUDA and the driver, in an order and with types that they take.

PyCUDA is pretended: that the real one agrees is for ``tests/gpu`` to see.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import spamm
from spamm.cuda import _device, _runtime_pycuda
from tests.spamm.cuda.emulated_device import EmulatedDevice, Foreign
from tests.spamm.cuda.emulator import needs_compiler
from tests.spamm.cuda.pretend_driver import Context, PretendedDriver
from tests.spamm.cuda.test_runtime import BLOCK, close, exact

pytestmark = needs_compiler

Array = npt.NDArray[Any]
Decaying = Callable[..., Array]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PretendedDriver]:
    made = PretendedDriver([EmulatedDevice(number) for number in range(3)])
    made.install(monkeypatch)
    monkeypatch.setattr(_runtime_pycuda, "compile_cubin", lambda source, arch: source.encode())
    monkeypatch.setenv("SPAMM_CACHE", str(tmp_path))
    _device._found.cache_clear()
    yield made
    _device._found.cache_clear()
    gc.collect()
    assert not Context.stack, "a context was left current"


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_products_of_every_kind_run_through_pycuda(
    driver: PretendedDriver, decaying: Decaying, dtype: Any
) -> None:
    a, b = decaying(64, 64, dtype), decaying(64, 72, dtype, seed=1)
    got = spamm.matmul(a, b, valid_ratio=0.9, block=BLOCK, backend="cuda")
    assert np.linalg.norm(got - exact(a, b)) < 0.1 * np.linalg.norm(exact(a, b))
    close(spamm.matmul(a, b, max_rel_error=0.0, block=BLOCK, backend="cuda"), exact(a, b), dtype)
    assert driver.gpus[0].launched("spamm_multiply") >= 2
    if dtype == np.float32:
        out = Foreign(driver.gpus[1], np.zeros((72, 64), np.float64).T)
        on_gpu = Foreign(driver.gpus[1], np.asfortranarray(a)), Foreign(driver.gpus[1], b, stream=9)
        spamm.matmul(*on_gpu, tau=0.0, block=BLOCK, out=out)
        close(out.values, exact(a, b))
        own = 0x5001
        assert {(9, own), (own, 9), (own, 1)} <= set(driver.order)


def test_gpus_wait_for_one_another_s_streams(driver: PretendedDriver, decaying: Decaying) -> None:
    a, b = decaying(96, 64, np.float32), decaying(64, 64, np.float32, seed=1)
    close(spamm.matmul(a, b, tau=0.0, block=BLOCK, backend="cuda"), exact(a, b))
    assert driver.retained == [0], "GPUs that are not used need no context"
    close(spamm.matmul(a, b, tau=0.0, block=BLOCK, devices=[0, 1, 2]), exact(a, b))
    assert sorted(driver.retained) == [0, 1, 2]
    streams = [0x5000, 0x5001, 0x5002]
    assert {(streams[0], streams[1]), (streams[1], streams[0])} <= set(driver.order)


def test_memory_comes_back_and_its_lack_is_said(
    driver: PretendedDriver, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = decaying(64, 64, np.float32)
    spamm.matmul(a, a, tau=0.0, block=BLOCK, backend="cuda")
    on_gpu = Foreign(driver.gpus[0], a)
    result = spamm.matmul(on_gpu, on_gpu, tau=0.0, block=BLOCK)
    del result
    gc.collect()
    assert driver.gpus[0].allocations == 1
    monkeypatch.setattr(driver.gpus[0], "_free", 40000)
    needed = r"^backend: GPU 0 has too little memory: \d+ bytes are needed, \d+ are free$"
    with pytest.raises(RuntimeError, match=needed):
        spamm.matmul(a, a, tau=0.0, backend="cuda")


def test_failures_of_the_driver_are_one_line(
    driver: PretendedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise driver.Error("cuMemsetD8Async failed:\n an illegal memory access")

    monkeypatch.setattr(driver, "memcpy_htod_async", fail)
    a = np.ones((32, 32), np.float32)
    with pytest.raises(RuntimeError, match=r"^backend: GPU 0 failed: cuMemset.* illegal memory"):
        spamm.matmul(a, a, tau=0.0, backend="cuda")


def test_no_gpu_is_said(driver: PretendedDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.ones((32, 32), np.float32)
    needs = r"^backend: 'cuda' needs pycuda and a CUDA driver, .*\(the CUDA driver finds no GPU"
    monkeypatch.setattr(driver, "gpus", [])
    with pytest.raises(RuntimeError, match=needs):
        spamm.matmul(a, a, tau=0.0, backend="cuda")

    def fail() -> None:
        raise driver.Error("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(driver, "init", fail)
    with pytest.raises(RuntimeError, match=needs + ": cuInit failed"):
        spamm.plan(a, a, tau=0.0, backend="cuda")


def test_a_current_context_of_the_caller_is_left_as_it_is(
    driver: PretendedDriver, decaying: Decaying
) -> None:
    a = decaying(32, 32, np.float32)
    Context(1).push()
    with contextlib.ExitStack() as after:
        after.callback(Context.pop)
        close(spamm.matmul(a, a, tau=0.0, block=BLOCK, backend="cuda"), exact(a, a))
        assert [each.number for each in Context.stack] == [1]
