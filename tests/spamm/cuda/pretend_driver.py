"""PyCUDA and the driver's bindings, as far as the runtime asks for them, over emulated GPUs.

What PyCUDA is strict about, this is: nothing happens without a current context of the right GPU,
memory comes back only with one, launches have what was prepared, and host buffers are of types that
NumPy gives a buffer of.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.spamm.cuda.emulated_device import EmulatedDevice, EmulatedMemory
from tests.spamm.cuda.emulator import compile_kernels

_LIMITS = {
    "MULTIPROCESSOR_COUNT": 3,
    "MAX_REGISTERS_PER_MULTIPROCESSOR": 65536,
    "MAX_THREADS_PER_MULTIPROCESSOR": 2048,
    "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": 228 << 10,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 227 << 10,
}
_USES = {"NUM_REGS": 168, "SHARED_SIZE_BYTES": 2064}


class Error(Exception):
    """As `pycuda.driver.Error`."""


class OutOfMemoryError(Error):
    """As `pycuda.driver.MemoryError`."""


class Context:
    """A primary context; another object of the same GPU is equal."""

    stack: list[Context] = []  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.handle = 0x100 + number
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and other.handle == self.handle

    __hash__ = None  # type: ignore[assignment]

    def push(self) -> None:
        self.stack.append(self)

    @classmethod
    def pop(cls) -> None:
        cls.stack.pop()

    @classmethod
    def get_current(cls) -> Context | None:
        return Context(cls.stack[-1].number) if cls.stack else None


class Allocation:
    def __init__(self, gpu: EmulatedDevice, memory: EmulatedMemory) -> None:
        self._gpu, self._memory = gpu, memory

    def __int__(self) -> int:
        return self._memory.address

    def free(self) -> None:
        assert Context.stack, "memory comes back without a context"
        del self._memory


class Function:
    def __init__(self, driver: PretendedDriver, source: str, name: str) -> None:
        self._driver, self._name = driver, name
        self._kernels = compile_kernels(source)
        self.attributes = dict(_USES)

    def get_attribute(self, name: str) -> int:
        return self.attributes[name]

    def set_attribute(self, name: str, value: int) -> None:
        self.attributes[name] = value

    def prepare(self, formats: str) -> None:
        codes = self._kernels.signatures[self._name]
        wanted = ["P" if code[0] in "pc" else code for code in codes]
        # a C long has 64 bits here
        assert [f.replace("l", "q").replace("L", "Q") for f in formats] == wanted
        self.formats = formats

    def prepared_async_call(
        self, grid: Any, block: Any, stream: Any, *args: Any, shared_size: int
    ) -> None:
        gpu = self._driver.gpu()
        assert stream.gpu is gpu
        most = self.attributes.get("MAX_DYNAMIC_SHARED_SIZE_BYTES", 48 << 10)
        assert shared_size <= most, "shared memory was not asked for"
        codes = self._kernels.signatures[self._name]
        pointers = [arg for code, arg in zip(codes, args, strict=True) if code[0] in "pc"]
        values = [
            _memory(gpu, arg, pointers, int(code[1:])) if code[0] in "pc" else arg
            for code, arg in zip(codes, args, strict=True)
        ]
        gpu.log.append(("launch", self._name))
        self._kernels.launch(self._name, grid, block, values, shared_bytes=shared_size)


def _memory(gpu: EmulatedDevice, address: int, pointers: Sequence[int], size: int) -> Any:
    """What is at an address, up to what another argument points to."""
    if not address:
        return None
    end = min((each for each in pointers if each > address), default=1 << 63)
    values = gpu.rest(address)[: end - address]
    return gpu.at(address, values.size // size * size, size if size in (1, 2, 4, 8) else 1)


class PretendedDriver:
    """`pycuda.driver`, `pycuda.tools` and `cuda.bindings.driver` of a machine with some GPUs."""

    Error, MemoryError = Error, OutOfMemoryError
    Context = Context

    def __init__(self, gpus: Sequence[EmulatedDevice]) -> None:
        self.gpus = gpus
        names = {name: name for name in (*_LIMITS, *_USES, "MAX_DYNAMIC_SHARED_SIZE_BYTES")}
        self.device_attribute = self.function_attribute = SimpleNamespace(**names)
        self.event_flags = SimpleNamespace(DISABLE_TIMING=2)
        self.events: dict[int, int] = {}
        self.retained: list[int] = []
        self.order: list[tuple[int, int]] = []
        self.CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="ordinal")
        driver = self

        class Device:
            def __init__(self, number: int) -> None:
                self.number = number

            @staticmethod
            def count() -> int:
                return len(driver.gpus)

            def name(self) -> str:
                return "pretended"

            def compute_capability(self) -> tuple[int, int]:
                return 9, 0

            def get_attribute(self, name: str) -> int:
                return _LIMITS[name]

            def retain_primary_context(self) -> Context:
                driver.retained.append(self.number)
                return Context(self.number)

        class Stream:
            def __init__(self) -> None:
                self.gpu = driver.gpu()
                self.handle = 0x5000 + self.gpu.number

            def synchronize(self) -> None:
                assert driver.gpu() is self.gpu

        class Event:
            def __init__(self, flags: int) -> None:
                assert flags == 2

            def record(self, stream: Stream) -> None:
                assert stream.gpu is driver.gpu()

            def synchronize(self) -> None:
                assert driver.gpu()

        self.Device, self.Stream, self.Event = Device, Stream, Event

    def install(self, monkeypatch: Any) -> None:
        """Makes imports of PyCUDA and of the bindings give this."""
        pycuda, tools = ModuleType("pycuda"), ModuleType("pycuda.tools")
        pycuda.driver, pycuda.tools = self, tools  # type: ignore[attr-defined]
        tools.DeviceMemoryPool = lambda: SimpleNamespace(  # type: ignore[attr-defined]
            allocate=self.mem_alloc, free_held=lambda: None
        )
        tools.PageLockedMemoryPool = lambda: SimpleNamespace(allocate=np.empty)  # type: ignore[attr-defined]
        import cuda.bindings

        for name, module in (("pycuda", pycuda), ("pycuda.driver", self), ("pycuda.tools", tools)):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", self)
        monkeypatch.setattr(cuda.bindings, "driver", self, raising=False)

    def gpu(self) -> EmulatedDevice:
        """The GPU whose context is current."""
        assert Context.stack, "no context is current"
        return self.gpus[Context.stack[-1].number]

    def init(self) -> None: ...

    def mem_alloc(self, nbytes: int) -> Allocation:
        gpu = self.gpu()
        try:
            return Allocation(gpu, gpu.allocate(nbytes))
        except RuntimeError as error:
            raise OutOfMemoryError("cuMemAlloc failed: out of memory") from error

    def mem_get_info(self) -> tuple[int, int]:
        return self.gpu()._free, 1 << 30

    def memcpy_htod_async(self, to: int, values: Any, stream: Any) -> None:
        self._on(stream).upload(to, np.frombuffer(values, np.uint8))

    def memcpy_dtoh_async(self, values: Any, address: int, stream: Any) -> None:
        self._on(stream).fetch(address, np.frombuffer(values, np.uint8))()

    def memcpy_dtod_async(self, to: int, address: int, nbytes: int, stream: Any) -> None:
        gpu = self._on(stream)
        gpu.copy(to, gpu, address, nbytes)

    def memset_d8_async(self, to: int, value: int, nbytes: int, stream: Any) -> None:
        assert value == 0
        self._on(stream).zero(to, nbytes)

    def _on(self, stream: Any) -> EmulatedDevice:
        assert stream.gpu is self.gpu()
        return stream.gpu

    def module_from_buffer(self, cubin: bytes) -> Any:
        assert Context.stack
        return SimpleNamespace(get_function=lambda name: Function(self, cubin.decode(), name))

    def cuEventCreate(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == 2
        self.events[len(self.events)] = -1
        return 0, len(self.events) - 1

    def cuEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert self.gpu()
        self.events[event] = stream
        return (0,)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        self.order.append((self.events[event], stream))
        return (flags,)

    def cuEventDestroy(self, event: int) -> tuple[Any, ...]:  # noqa: N802
        assert self.events[event] != -1
        return (0,)

    def cuMemcpyPeerAsync(  # noqa: N802
        self, to: int, to_context: int, at: int, from_context: int, nbytes: int, stream: int
    ) -> tuple[Any, ...]:
        target, source = self.gpus[to_context - 0x100], self.gpus[from_context - 0x100]
        assert target is self.gpu()
        assert stream == 0x5000 + target.number
        target.copy(to, source, at, nbytes)
        return (0,)

    def cuPointerGetAttribute(self, name: str, address: int) -> tuple[Any, ...]:  # noqa: N802
        assert name == "ordinal"
        if not Context.stack:
            return 201, None
        owners = [gpu.number for gpu in self.gpus if gpu.owns(address)]
        return (0, owners[0]) if owners else (1, None)
