"""PyCUDA's interface over host memory, whose kernels run in the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.familyseer.kernels.pretend_pycuda import PretendedGpu, on_gpu
from tests.spamm.cuda.emulator import compile_kernels

Array = np.ndarray[Any, Any]
_ALIGNMENT = 256
_NUMBERS = {"i": np.int32, "q": np.int64}


class _Memory:
    def __init__(self, size: int) -> None:
        raw = np.full(size + _ALIGNMENT, 0xA5, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self.bytes = raw[start : start + size]

    def __int__(self) -> int:
        return int(self.bytes.ctypes.data)


class _Function:
    def __init__(self, gpu: EmulatingGpu, name: str) -> None:
        self._gpu, self._name, self._formats = gpu, name, ""

    def set_attribute(self, _attribute: Any, _value: int) -> None: ...

    def prepare(self, formats: str) -> _Function:
        self._formats = formats
        return self

    def prepared_async_call(
        self, grid: Any, block: Any, stream: Any, *values: int, shared_size: int
    ) -> None:
        gpu, name = self._gpu, self._name
        gpu.launches.append((name, grid, block, stream, shared_size))
        codes = gpu.kernels.signatures[name]
        args = [
            _NUMBERS[kind](value) if kind in _NUMBERS else gpu.at(value, int(code[1:]))
            for kind, value, code in zip(self._formats, values, codes, strict=True)
        ]
        gpu.kernels.launch(name, grid, block, args, shared_bytes=shared_size)


class EmulatingGpu(PretendedGpu):
    """A GPU of compute capability 9.0 that runs the kernels of one `.cu` file."""

    def __init__(self, source: Path) -> None:
        super().__init__((9, 0))
        self.kernels = compile_kernels(source.read_text())
        self._memory: dict[int, Array] = {}

    def mem_alloc(self, size: int) -> Any:
        made = _Memory(size)
        self._memory[int(made)] = made.bytes
        return made

    def get_function(self, name: str) -> Any:
        return _Function(self, name)

    def at(self, address: int, itemsize: int) -> Array | None:
        """The allocation at an address, as elements of a size; None for a null pointer."""
        if not address:
            return None
        found = self._memory[address]
        return found[: found.size // itemsize * itemsize].view(f"u{min(itemsize, 8)}")

    def shifted(self, values: Array, nbytes: int) -> Any:
        """An array on this GPU that begins so many bytes beside an aligned address."""
        memory = _Memory(values.nbytes + nbytes)
        place = memory.bytes[nbytes : nbytes + values.nbytes].view(values.dtype)
        place[:] = values.ravel()
        return on_gpu(place.reshape(values.shape))
