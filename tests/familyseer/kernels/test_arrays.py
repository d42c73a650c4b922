"""Arrays of other libraries, by the two protocols for arrays in GPU memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from familyseer.kernels._arrays import _from_capsule, device_array, producer_stream
from tests.familyseer.kernels.pretend_pycuda import on_gpu


class Tensor:
    """A tensor on a GPU that knows DLPack alone; its memory is the host's."""

    def __init__(self, values: Any, device: int) -> None:
        self.values, self.device, self.stream = values, device, None

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, stream: Any = None) -> Any:
        self.stream = stream
        return self.values.__dlpack__()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
def test_dlpack_says_where_an_array_is_and_what_it_holds(dtype: str) -> None:
    values = np.zeros((3, 5), dtype)
    found = device_array(Tensor(values, 2), stream=7)
    assert found is not None
    assert (found.address, found.shape, found.dtype) == (values.ctypes.data, (3, 5), dtype)
    assert found.contiguous


def test_dlpack_is_asked_for_the_stream_that_will_use_the_array() -> None:
    tensor = Tensor(np.zeros(3), 2)
    device_array(tensor, stream=7)
    assert tensor.stream == 7
    device_array(tensor)
    assert tensor.stream == 1, "the legacy default stream has the number 1"


def test_an_offset_and_gaps_are_seen() -> None:
    values = np.zeros((4, 6), "float32")
    row = _from_capsule(values[2:].__dlpack__())
    assert (row.address, row.contiguous) == (values[2:].ctypes.data, True)
    assert not _from_capsule(values[:, :3].__dlpack__()).contiguous
    assert not _from_capsule(values.T.__dlpack__()).contiguous
    assert _from_capsule(values[:1, :6].__dlpack__()).contiguous
    assert not on_gpu_array(values.T).contiguous
    assert on_gpu_array(values[1:2]).contiguous
    assert on_gpu_array(values[:0, ::2]).contiguous


def on_gpu_array(values: Any) -> Any:
    found = device_array(on_gpu(values))
    assert found is not None
    return found


def test_host_arrays_are_not_taken_for_device_arrays() -> None:
    assert device_array(np.zeros(3)) is None
    assert device_array(Tensor(np.zeros(3), 1)) is None
    assert device_array([1.0, 2.0]) is None
    assert device_array(np.zeros(3, ml_dtypes.bfloat16)) is None


def test_an_array_may_be_in_the_making_on_another_stream() -> None:
    class Busy:
        __cuda_array_interface__ = {"stream": 3}  # noqa: RUF012

    assert producer_stream(Busy()) == 3
    assert producer_stream(on_gpu(np.zeros(3))) is None
    assert producer_stream(Tensor(np.zeros(3), 2)) is None
