"""GPUs for the runtime, on the CPU: memory is the host's, kernels run in the emulator.

Whatever a GPU would not forgive raises: memory of another device, copies out of bounds, a launch
whose arguments lie in no allocation. Freed memory is overwritten, so that nothing old is read.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from spamm.cuda._device import ALIGNMENT, Argument, Device, Span
from spamm.cuda._launch import Launch
from tests.spamm.cuda.emulator import compile_kernels

Array = np.ndarray[Any, Any]
_GARBAGE = 0xA5
_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class EmulatedMemory:
    """An allocation; its bytes become garbage when it is given back."""

    def __init__(self, device: EmulatedDevice, nbytes: int) -> None:
        raw = np.full(nbytes + ALIGNMENT, _GARBAGE, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start : start + nbytes]
        self.address, self.nbytes = int(self.bytes.ctypes.data), nbytes
        device.add(self.address, self.bytes)
        # the array outlives this until the finalizer has run
        weakref.finalize(self, device.give_back, self.address)


class EmulatedDevice:
    """One of several; see `spamm.cuda._device.Device`."""

    def __init__(self, number: int, *, memory: int = 1 << 30, arch: str = "sm_90") -> None:
        self.number, self.name, self.arch = number, "emulated", arch
        self.multiprocessors, self.stream = 2, 0x5000 + number
        self.log: list[tuple[Any, ...]] = []
        self._free = memory
        self._starts: list[int] = []
        self._blocks: dict[int, Array] = {}

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        yield

    def add(self, address: int, values: Array) -> None:
        bisect.insort(self._starts, address)
        self._blocks[address] = values
        self._free -= values.size

    def give_back(self, address: int) -> None:
        values = self._blocks.pop(address)
        self._starts.remove(address)
        self._free += values.size
        values[:] = _GARBAGE

    @property
    def allocations(self) -> int:
        return len(self._starts)

    def allocate(self, nbytes: int, *, lasting: bool = False) -> EmulatedMemory:
        assert nbytes > 0
        if nbytes > self._free:
            raise RuntimeError(
                f"backend: GPU {self.number} has too little memory: {nbytes} bytes are needed,"
                f" {self._free} are free"
            )
        return EmulatedMemory(self, nbytes)

    def at(self, address: int, nbytes: int, itemsize: int = 1) -> Array:
        """The bytes of an allocation at an address, as elements of a size."""
        values = self.rest(address)
        assert nbytes <= values.size, f"{nbytes} bytes at {address:#x} leave their memory"
        return values[:nbytes].view(_TYPES[itemsize])

    def rest(self, address: int) -> Array:
        """An allocation's bytes from an address to its end."""
        place = bisect.bisect_right(self._starts, address) - 1
        assert place >= 0, f"{address:#x} is not memory of GPU {self.number}"
        return self._blocks[self._starts[place]][address - self._starts[place] :]

    def upload(self, address: int, values: Array) -> None:
        assert values.flags.c_contiguous
        self.at(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)

    def fetch(self, address: int, values: Array) -> Callable[[], None]:
        assert values.flags.c_contiguous
        now = self.at(address, values.nbytes).copy()

        def wait() -> None:
            self.log.append(("wait",))
            values.reshape(-1).view(np.uint8)[:] = now

        return wait

    def zero(self, address: int, nbytes: int) -> None:
        self.log.append(("zero", nbytes))
        self.at(address, nbytes)[:] = 0

    def copy(self, address: int, source: Device, source_address: int, nbytes: int) -> None:
        assert isinstance(source, EmulatedDevice)
        self.wait_for_device(source)
        self.log.append(("copy", source.number, nbytes))
        self.at(address, nbytes)[:] = source.at(source_address, nbytes)

    def launch(self, source: str, launch: Launch, args: Sequence[Argument]) -> None:
        self.log.append(("launch", launch.kernel))
        compile_kernels(source).launch(
            launch.kernel,
            launch.grid,
            launch.block,
            [self._bound(each) for each in args],
            shared_bytes=launch.shared_bytes,
        )

    def _bound(self, arg: Argument) -> Any:
        return self.at(arg.address, arg.nbytes, arg.itemsize) if isinstance(arg, Span) else arg

    def resident(self, source: str, kernel: str, threads: int, shared_bytes: int) -> int:
        return self.multiprocessors

    def wait_for(self, stream: int) -> None:
        self.log.append(("wait for", stream))

    def precede(self, stream: int) -> None:
        self.log.append(("precede", stream))

    def wait_for_device(self, other: Device) -> None:
        if other is not self:
            self.log.append(("wait for device", other.number))

    def synchronize(self) -> None:
        pass

    def owns(self, address: int) -> bool:
        place = bisect.bisect_right(self._starts, address) - 1
        return place >= 0 and address < self._starts[place] + self._blocks[self._starts[place]].size

    def launched(self, kernel: str) -> int:
        """How many times a kernel was."""
        return self.log.count(("launch", kernel))


class Foreign:
    """An array of a library that knows ``__cuda_array_interface__`` alone, on an emulated device.

    values: a view of any layout; its whole base array is put on the device.
    """

    def __init__(self, device: EmulatedDevice, values: Array, **interface: Any) -> None:
        base = values
        while isinstance(base.base, np.ndarray):
            base = base.base
        self._memory = device.allocate(max(1, base.nbytes))
        ctypes.memmove(self._memory.address, base.ctypes.data, base.nbytes)
        offset = values.ctypes.data - base.ctypes.data
        self.values: Array = np.ndarray(
            values.shape, values.dtype, self._memory.bytes.data, offset, values.strides
        )
        self.whole = self._memory.bytes[: base.nbytes].view(base.dtype)
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "strides": values.strides,
            "data": (self._memory.address + offset, False),
            "version": 3,
            **interface,
        }
