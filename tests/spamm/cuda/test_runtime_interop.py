"""Arrays of other libraries: not copied, in the order of streams, and results of their kind."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import spamm
from spamm.cuda import DeviceArray, _interop, _interop_dlpack
from tests.spamm.cuda.emulated_device import EmulatedDevice, Foreign
from tests.spamm.cuda.emulator import needs_compiler
from tests.spamm.cuda.test_runtime import BLOCK, close, exact, kept_only

pytestmark = needs_compiler

Array = npt.NDArray[Any]
Gpus = tuple[EmulatedDevice, ...]
Decaying = Callable[..., Array]
_STREAM = 77


class Library:
    """A library with DLPack alone, whose module is `torch` where a test says so."""

    def __init__(self, device: EmulatedDevice, values: Array, kind: str | None = None) -> None:
        bits = values.view(np.uint16) if values.dtype.itemsize == 2 else values
        self.array, self.kind = Foreign(device, bits), kind or values.dtype.name
        self.device, self.asked = device, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.number

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked.append(stream)
        values = self.array.values
        return _interop_dlpack.make_capsule(
            self.array, values.ctypes.data, values.shape, self.kind, self.__dlpack_device__()
        )


def on_gpu(device: EmulatedDevice, values: Array) -> DeviceArray:
    memory = device.allocate(values.nbytes)
    device.upload(memory.address, values)
    return DeviceArray(device, memory, values.shape, values.dtype.name)


def test_bfloat16_comes_and_goes_by_dlpack(gpus: Gpus, decaying: Decaying, bfloat16: Any) -> None:
    a, b = decaying(64, 48, bfloat16), decaying(48, 32, bfloat16, seed=1)
    given = Library(gpus[1], a), Library(gpus[1], b)
    got = spamm.matmul(*given, tau=1e-3, block=BLOCK)
    assert isinstance(got, DeviceArray)
    assert not hasattr(got, "__cuda_array_interface__")
    plan = spamm.plan(*given, tau=1e-3, block=BLOCK)
    close(got, kept_only(a, b, plan), bfloat16)
    # each was told the stream that it is read on
    assert {stream for each in given for stream in each.asked} == {gpus[1].stream}
    chained = spamm.matmul(got, Library(gpus[1], b.T.copy()), tau=0.0, block=BLOCK)
    close(chained, exact(got.numpy(), b.T), bfloat16)


def test_a_capsule_keeps_its_memory_and_gives_it_back(gpus: Gpus) -> None:
    array = on_gpu(gpus[0], np.arange(12, dtype=np.float32).reshape(3, 4))
    before = gpus[0].allocations
    capsule = array.__dlpack__()
    tensor = _interop_dlpack.read_capsule(capsule)
    assert (tensor.shape, tensor.strides, tensor.dtype) == ((3, 4), (4, 1), "float32")
    del array
    gc.collect()
    assert gpus[0].allocations == before
    np.testing.assert_array_equal(gpus[0].at(tensor.address, 48, 4).view(np.float32), range(12))
    del capsule
    gc.collect()
    assert gpus[0].allocations == before - 1


def test_tvm_reads_results_and_its_tensors_are_read(gpus: Gpus) -> None:
    tvm_ffi = pytest.importorskip("tvm_ffi")
    array = on_gpu(gpus[0], np.ones((3, 4), np.float16))
    before = gpus[0].allocations
    tensor = tvm_ffi.from_dlpack(array)
    assert (tuple(tensor.shape), str(tensor.dtype)) == ((3, 4), "float16")
    assert (tensor.device.type, tensor.device.index) == ("cuda", 0)
    again = _interop.view(array, "a")
    del array
    gc.collect()
    found = _interop_dlpack.read_capsule(tensor.__dlpack__())
    assert found == (again.address, (3, 4), (4, 1), "float16")
    del tensor, again, found
    gc.collect()
    assert gpus[0].allocations == before - 1


def test_streams_that_arrays_name_are_waited_for_and_wait(gpus: Gpus, decaying: Decaying) -> None:
    a = decaying(64, 64, np.float32)
    busy, done = Foreign(gpus[0], a, stream=_STREAM), Foreign(gpus[0], a, stream=None)
    log = gpus[0].log
    log.clear()
    got = spamm.matmul(busy, done, tau=0.0, block=BLOCK)
    assert log[0] == ("wait for", _STREAM)
    assert log.index(("precede", _STREAM)) > log.index(("launch", "spamm_multiply"))
    # readers of the result are told what to wait for, and by DLPack made to
    assert got.__cuda_array_interface__["stream"] == gpus[0].stream
    got.__dlpack__(stream=5)
    assert log[-1] == ("precede", 5)
    got.__dlpack__(stream=-1)
    assert log[-1] == ("precede", 5)
    got.__dlpack__()
    assert log[-1] == ("precede", 1)


def test_what_a_result_cannot_be_is_refused(gpus: Gpus) -> None:
    array = on_gpu(gpus[0], np.ones((4, 4), np.float32))
    with pytest.raises(BufferError, match="expected a reader on its own device"):
        array.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match="without a copy"):
        array.__dlpack__(copy=True)
    assert repr(array) == "DeviceArray(shape=(4, 4), dtype=float32, device=0)"


def test_results_are_of_the_operand_s_library(
    gpus: Gpus, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(shape: tuple[int, ...], *, dtype: Any, device: str) -> Library:
        assert device == "cuda:2"
        return Tensor(gpus[2], np.zeros(shape, np.dtype(dtype)))

    torch: Any = ModuleType("torch")
    torch.empty, torch.float16 = empty, "float16"
    torch.cuda = SimpleNamespace(current_stream=lambda number: SimpleNamespace(cuda_stream=_STREAM))
    monkeypatch.setitem(sys.modules, "torch", torch)

    class Tensor(Library):
        __module__ = "torch"

    a = decaying(48, 32, np.float16)
    tensor = Tensor(gpus[2], a)
    got = spamm.matmul(tensor, Tensor(gpus[2], a.T.copy()), tau=0.0, block=BLOCK)
    assert isinstance(got, Tensor)
    close(got.array.values.view(np.float16), exact(a, a.T), np.float16)
    # memory that the library has given out may be in use on its stream; later it waits for ours
    log = gpus[2].log
    assert log.index(("wait for", _STREAM)) < log.index(("launch", "spamm_multiply"))
    assert log[-1] == ("precede", _STREAM)


def test_arrays_that_cannot_be_read_are_refused_in_one_line(gpus: Gpus) -> None:
    host = np.ones((64, 64), np.float32)

    class Gradient(Library):
        def __dlpack__(self, *, stream: int | None = None) -> Any:
            raise BufferError("it requires a gradient\nand more")

    def refused(match: str, value: Any) -> None:
        with pytest.raises(ValueError, match=match):
            spamm.matmul(value, value, tau=0.0)

    refused(r"^a: its library .*: it requires a gradient$", Gradient(gpus[0], host))
    elsewhere = Library(EmulatedDevice(9), host)
    refused(r"^a: expected GPUs of this machine, 0, 1, 2, 3, got 9$", elsewhere)
    stray = Foreign(gpus[0], host, data=(0x1000, False))
    refused(r"^a: its address, 0x1000, is in the memory of no GPU$", stray)
    odd = Foreign(gpus[0], host, strides=(255, 4))
    refused(r"^a: expected strides that are multiples", odd)
    masked = Foreign(gpus[0], host, mask=object())
    refused(r"^a: expected an array without a mask$", masked)
    swapped = Foreign(gpus[0], host.astype(">f4"))
    refused(r"^a: expected elements of type", swapped)
