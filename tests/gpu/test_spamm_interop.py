"""SpAMM on arrays of PyTorch, CuPy, TVM and PyCUDA, on a real GPU, without copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import spamm
from spamm.cuda import DeviceArray
from tests.gpu.test_spamm_products import check, decaying, exact

pytestmark = pytest.mark.usefixtures("spamm_gpu")


@pytest.fixture
def torch() -> Any:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    return torch


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_torch_in_and_out(torch: Any, dtype: str) -> None:
    a, b = (
        torch.from_numpy(decaying(m, n, np.float32, m)).to("cuda", getattr(torch, dtype))
        for m, n in ((300, 256), (256, 200))
    )
    wide = a.double().cpu().numpy(), b.double().cpu().numpy()
    got = spamm.matmul(a, b, tau=0.0)
    assert isinstance(got, torch.Tensor)
    assert got.dtype == a.dtype
    check(got.float().cpu().numpy(), exact(*wide), dtype)
    out = torch.empty((200, 300), device="cuda").t()
    assert spamm.matmul(a, b.t().contiguous().t(), tau=0.0, out=out) is out
    check(out.cpu().numpy(), exact(*wide), "float32")
    plan = spamm.plan(a, b, max_rel_error=1e-2)
    bound = np.linalg.norm(spamm.multiply(plan, a, b).double().cpu().numpy() - exact(*wide))
    rounding = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6}[dtype]
    assert bound <= plan.error_bound + rounding * np.linalg.norm(exact(*wide))


def test_work_of_torch_s_streams_is_waited_for_and_waits(torch: Any) -> None:
    side = torch.cuda.Stream()
    a = torch.eye(512, device="cuda")
    for _ in range(20):
        with torch.cuda.stream(side):
            # long enough that the product would otherwise be there first
            torch.cuda._sleep(2_000_000)
            b = torch.full((512, 512), 3.0, device="cuda")
            got = spamm.matmul(a, b, tau=0.0)
            total = got.sum()
            b.zero_()
            del b
        assert float(total) == 3.0 * 512 * 512


def test_a_gradient_is_refused(torch: Any) -> None:
    a = torch.ones((64, 64), device="cuda", requires_grad=True)
    with pytest.raises(ValueError, match=r"^a: its library does not give its memory away"):
        spamm.matmul(a, a, tau=0.0)


def test_cupy_in_and_out() -> None:
    cupy = pytest.importorskip("cupy")
    a, b = decaying(300, 256, np.float16), decaying(256, 200, np.float16, 1)
    got = spamm.matmul(cupy.asarray(a), cupy.asarray(b), tau=0.0)
    assert isinstance(got, cupy.ndarray)
    check(got.get(), exact(a, b), "float16")


def test_tvm_in_and_out() -> None:
    tvm = pytest.importorskip("tvm")
    if not tvm.cuda(0).exist:
        pytest.skip("TVM sees no GPU")
    a, b = decaying(300, 256, np.float16), decaying(256, 200, np.float16, 1)
    given = [tvm.runtime.tensor(each, tvm.cuda(0)) for each in (a, b)]
    got = spamm.matmul(*given, tau=0.0)
    assert isinstance(got, type(given[0]))
    check(got.numpy(), exact(a, b), "float16")


@pytest.fixture
def current_context() -> Iterator[None]:
    from pycuda import driver

    context = driver.Device(0).retain_primary_context()
    context.push()
    yield
    driver.Context.pop()


@pytest.mark.usefixtures("current_context")
def test_arrays_of_pycuda_and_own_results() -> None:
    from pycuda import gpuarray

    a, b = decaying(300, 256, np.float32), decaying(256, 200, np.float32, 1)
    got = spamm.matmul(gpuarray.to_gpu(a), gpuarray.to_gpu(b), tau=0.0)
    assert isinstance(got, DeviceArray)
    check(got.numpy(), exact(a, b), "float32")
    again = spamm.matmul(got, gpuarray.to_gpu(b.T.copy()), tau=0.0)
    check(again.numpy(), exact(got.numpy(), b.T), "float32")
