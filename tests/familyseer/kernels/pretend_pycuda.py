"""PyCUDA's interface over host memory: what a CUDA library asks of it, without a GPU.

Device functions are those of `row_softmax`, in NumPy. What is launched is kept in `launches`.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Error(Exception):
    """As `pycuda.driver.Error`."""


class _Memory:
    def __init__(self, size: int) -> None:
        self.block = np.full(size, 0xFF, "uint8")

    def __int__(self) -> int:
        return int(self.block.ctypes.data)


class _Array:
    """As `pycuda.gpuarray.GPUArray`."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.values.__array_interface__, "version": 3, "stream": None}


def on_gpu(values: NDArray[Any]) -> Any:
    """An array in the pretended GPU's memory."""
    return _Array(values)


def _at(address: int, *shape: int) -> NDArray[Any]:
    count = int(np.prod(shape))
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, (count,)).reshape(shape)


class _Function:
    def __init__(self, gpu: PretendedGpu, name: str) -> None:
        self.gpu, self.name, self.attributes = gpu, name, {}

    def set_attribute(self, attribute: str, value: int) -> None:
        self.attributes[attribute] = value

    def prepare(self, formats: str) -> _Function:
        self.formats = formats
        return self

    def prepared_async_call(
        self, grid: Any, block: Any, stream: Any, *addresses: int, shared_size: int
    ) -> None:
        assert len(addresses) == len(self.formats)
        assert self.gpu.depth, "a launch without a current context"
        self.gpu.launches.append((self.name, grid, block, stream, shared_size))
        step = self.name.removeprefix("fs_fused_matmul_softmax_kernel")
        if step == "":
            a, b, c = addresses
            _at(c, 24, 40)[:] = _at(a, 24, 48) @ _at(b, 48, 40)
        elif step == "_1":
            _at(addresses[1], 24, 40)[:] = np.exp(_at(addresses[0], 24, 40))
        elif step == "_2":
            _at(addresses[1], 24)[:] = _at(addresses[0], 24, 40).sum(1)
        else:
            e, d, t = addresses
            _at(d, 24, 40)[:] = _at(e, 24, 40) / _at(t, 24)[:, None]


class PretendedGpu:
    """A GPU of a compute capability, for `import pycuda` to find."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.capability, self.depth, self.synchronized = capability, 0, 0
        self.launches: list[Any] = []
        self.loaded: list[bytes] = []

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Makes ``import pycuda.driver`` give this."""
        names = ("pycuda", "pycuda.driver", "pycuda.gpuarray")
        before = {name: sys.modules.get(name) for name in names}
        package, driver, arrays = (ModuleType(name) for name in names)
        package.driver, package.gpuarray = driver, arrays  # type: ignore[attr-defined]
        arrays.empty = lambda shape, dtype: _Array(np.empty(shape, dtype))  # type: ignore[attr-defined]
        for name in ("init", "Device", "Context", "Error", "mem_alloc", "module_from_buffer"):
            setattr(driver, name, getattr(self, name))
        driver.memcpy_htod = self.memcpy_htod  # type: ignore[attr-defined]
        driver.memcpy_dtoh = self.memcpy_dtoh  # type: ignore[attr-defined]
        sys.modules.update(dict(zip(names, (package, driver, arrays), strict=True)))
        try:
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module

    Error = Error

    def init(self) -> None: ...

    def Device(self, _number: int) -> PretendedGpu:  # noqa: N802
        return self

    def retain_primary_context(self) -> PretendedGpu:
        return self

    @property
    def Context(self) -> PretendedGpu:  # noqa: N802
        return self

    def get_current(self) -> PretendedGpu | None:
        return self if self.depth else None

    def get_device(self) -> PretendedGpu:
        return self

    def compute_capability(self) -> tuple[int, int]:
        return self.capability

    def push(self) -> None:
        self.depth += 1

    def pop(self) -> None:
        self.depth -= 1

    def synchronize(self) -> None:
        self.synchronized += 1

    def mem_alloc(self, size: int) -> _Memory:
        assert size > 0
        assert self.depth
        return _Memory(size)

    def memcpy_htod(self, address: int, values: Any) -> None:
        ctypes.memmove(address, values.ctypes.data, memoryview(values).nbytes)

    def memcpy_dtoh(self, values: Any, address: int) -> None:
        ctypes.memmove(values.ctypes.data, address, memoryview(values).nbytes)

    def module_from_buffer(self, image: bytes) -> PretendedGpu:
        assert self.depth
        self.loaded.append(image)
        return self

    def get_function(self, name: str) -> _Function:
        return _Function(self, name)
