"""GPUs through PyCUDA, on the primary contexts that TVM, PyTorch and CuPy use as well.

What PyCUDA does not offer - waiting between streams that are not its own, copies between devices
(its own ignore the contexts they are given), and whose memory an address is - goes through NVIDIA's
bindings of the driver, which nvrtc comes with.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm.cuda._compile import compile_cubin
from spamm.cuda._device import Argument, Device, Span
from spamm.cuda._launch import Launch

Array = npt.NDArray[Any]

# What a thread block gets of dynamic shared memory without asking
_SHARED_UNASKED = 48 << 10
# The driver keeps so much shared memory of each thread block for itself
_SHARED_RESERVED = 1024
_MOST_LOCKED = 64 << 20
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_NO_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT
# Registers are given to warps in steps
_REGISTER_STEP = 256

# By thread: the devices whose contexts are pushed
_pushed = threading.local()


def find_devices() -> tuple[Device, ...]:
    """This machine's GPUs; ImportError where there is none or something is missing."""
    import pycuda.driver as driver
    from cuda.bindings import driver as bindings

    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        raise ImportError(f"the CUDA driver finds no GPU: {_line(error)}") from None
    if not count:
        raise ImportError("the CUDA driver finds no GPU")
    return tuple(PyCudaDevice(driver, bindings, number) for number in range(count))


class _Memory:
    """An allocation of PyCUDA's."""

    def __init__(self, device: PyCudaDevice, allocation: Any, nbytes: int) -> None:
        self._device, self._allocation = device, allocation
        self.address, self.nbytes = int(allocation), nbytes

    def __del__(self) -> None:
        # PyCUDA's pool needs a context when memory comes back, and its destructors must not fail;
        # when Python ends, the driver may be gone before
        with contextlib.suppress(Exception), self._device.current():
            self._allocation.free()


class PyCudaDevice:
    """A GPU, its primary context, a stream and a pool of memory; see `spamm.cuda._device.Device`.

    The stream is a blocking one: the legacy default stream, which other libraries use unless told,
    waits for it and is waited for without further ado.
    """

    def __init__(self, driver: Any, bindings: Any, number: int) -> None:
        self._driver, self._bindings = driver, bindings
        gpu = driver.Device(number)
        major, minor = gpu.compute_capability()
        self.number, self.name, self.arch = number, gpu.name(), f"sm_{major}{minor}"
        limits = driver.device_attribute
        self.multiprocessors = int(gpu.get_attribute(limits.MULTIPROCESSOR_COUNT))
        self._registers = int(gpu.get_attribute(limits.MAX_REGISTERS_PER_MULTIPROCESSOR))
        self._threads = int(gpu.get_attribute(limits.MAX_THREADS_PER_MULTIPROCESSOR))
        self._shared = int(gpu.get_attribute(limits.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR))
        self._gpu = gpu
        self._functions: dict[str, dict[str, Any]] = {}
        self._prepared: set[tuple[str, str]] = set()
        self._resident: dict[tuple[str, str, int, int], int] = {}

    # A context takes time and memory: a GPU that is never used gets none

    @functools.cached_property
    def _context(self) -> Any:
        return self._gpu.retain_primary_context()

    @functools.cached_property
    def _queue(self) -> Any:
        with self.current():
            return self._driver.Stream()

    @functools.cached_property
    def _pool(self) -> Any:
        from pycuda.tools import DeviceMemoryPool

        return DeviceMemoryPool()

    @functools.cached_property
    def _locked(self) -> Any:
        from pycuda.tools import PageLockedMemoryPool

        return PageLockedMemoryPool()

    @functools.cached_property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._queue.handle)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Pushed for as long as it is needed: PyCUDA ends a process that leaves one current."""
        stack = vars(_pushed).setdefault("devices", [])
        if stack and stack[-1] is self:
            yield
            return
        # also where the caller has this context current: PyCUDA ties memory to the object that
        # stands for a context, and to a thread
        self._context.push()
        stack.append(self)
        try:
            yield
        finally:
            stack.pop()
            self._driver.Context.pop()

    def allocate(self, nbytes: int, *, lasting: bool = False) -> _Memory:
        with self.current():
            try:
                if lasting:
                    # freeing such waits for all streams
                    return _Memory(self, self._driver.mem_alloc(nbytes), nbytes)
                return _Memory(self, self._pool.allocate(nbytes), nbytes)
            except self._driver.MemoryError:
                self._pool.free_held()
            try:
                return _Memory(self, self._driver.mem_alloc(nbytes), nbytes)
            except self._driver.MemoryError:
                free = self._driver.mem_get_info()[0]
        raise RuntimeError(
            f"backend: GPU {self.number} has too little memory: {nbytes} bytes are needed,"
            f" {free} are free"
        )

    def upload(self, address: int, values: Array) -> None:
        with self.current(), self._reported():
            # from memory that is not locked, this returns once the driver has taken the values
            self._driver.memcpy_htod_async(address, _bytes(values), self._queue)

    def fetch(self, address: int, values: Array) -> Callable[[], None]:
        with self.current(), self._reported():
            # locked memory is what a copy is asynchronous for; much of it would starve the host
            small = values.nbytes <= _MOST_LOCKED
            locked = self._locked.allocate((values.nbytes,), np.uint8) if small else _bytes(values)
            self._driver.memcpy_dtoh_async(locked, address, self._queue)
            arrived = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
            arrived.record(self._queue)

        def wait() -> None:
            with self.current(), self._reported():
                arrived.synchronize()
            if small:
                _bytes(values)[:] = locked

        return wait

    def zero(self, address: int, nbytes: int) -> None:
        with self.current(), self._reported():
            self._driver.memset_d8_async(address, 0, nbytes, self._queue)

    def copy(self, address: int, source: Device, source_address: int, nbytes: int) -> None:
        if source is self:
            with self.current(), self._reported():
                self._driver.memcpy_dtod_async(address, source_address, nbytes, self._queue)
            return
        assert isinstance(source, PyCudaDevice)
        self.wait_for_device(source)
        with self.current():
            # the driver goes through the host's memory where devices cannot reach each other
            self._call(
                "cuMemcpyPeerAsync",
                address,
                int(self._context.handle),
                source_address,
                int(source._context.handle),
                nbytes,
                self.stream,
            )

    def launch(self, source: str, launch: Launch, args: Sequence[Argument]) -> None:
        with self.current():
            try:
                self._function(source, launch.kernel, args).prepared_async_call(
                    launch.grid,
                    launch.block,
                    self._queue,
                    *[_value(arg) for arg in args],
                    shared_size=launch.shared_bytes,
                )
            except self._driver.Error as error:
                raise self._failed(error) from None

    def resident(self, source: str, kernel: str, threads: int, shared_bytes: int) -> int:
        key = (source, kernel, threads, shared_bytes)
        if key not in self._resident:
            self._resident[key] = self._fitting(*key)
        return self._resident[key]

    def _fitting(self, source: str, kernel: str, threads: int, shared_bytes: int) -> int:
        with self.current(), self._reported():
            function, uses = self._loaded(source, kernel), self._driver.function_attribute
            registers = int(function.get_attribute(uses.NUM_REGS))
            shared = int(function.get_attribute(uses.SHARED_SIZE_BYTES)) + shared_bytes
        warps = -(-threads // 32)
        a_warp = -(-32 * registers // _REGISTER_STEP) * _REGISTER_STEP
        fit = min(
            self._registers // max(1, warps * a_warp),
            self._shared // (shared + _SHARED_RESERVED),
            self._threads // threads,
        )
        return self.multiprocessors * max(1, fit)

    def wait_for(self, stream: int) -> None:
        with self.current():
            self._order(stream, self.stream)

    def precede(self, stream: int) -> None:
        with self.current():
            self._order(self.stream, stream)

    def wait_for_device(self, other: Device) -> None:
        if other is self:
            return
        with other.current():
            event = self._call("cuEventCreate", _NO_TIMING)
            self._call("cuEventRecord", event, other.stream)
        with self.current():
            self._call("cuStreamWaitEvent", self.stream, event, 0)
            # freed by the driver once it is no longer waited for
            self._call("cuEventDestroy", event)

    def synchronize(self) -> None:
        with self.current(), self._reported():
            self._queue.synchronize()

    def owns(self, address: int) -> bool:
        attribute = self._bindings.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, ordinal = self._bindings.cuPointerGetAttribute(attribute, address)
        if int(status) == _NO_CONTEXT:
            with self.current():
                status, ordinal = self._bindings.cuPointerGetAttribute(attribute, address)
        return int(status) == 0 and int(ordinal) == self.number

    def _order(self, first: int, then: int) -> None:
        if first == then:
            return
        event = self._call("cuEventCreate", _NO_TIMING)
        self._call("cuEventRecord", event, first)
        self._call("cuStreamWaitEvent", then, event, 0)
        self._call("cuEventDestroy", event)

    def _function(self, source: str, kernel: str, args: Sequence[Argument]) -> Any:
        function = self._loaded(source, kernel)
        if (source, kernel) not in self._prepared:
            self._prepared.add((source, kernel))
            function.prepare(
                "".join(a.dtype.char if isinstance(a, np.generic) else "P" for a in args)
            )
        return function

    def _loaded(self, source: str, kernel: str) -> Any:
        functions = self._functions.get(source)
        if functions is None:
            cubin = compile_cubin(source, self.arch)
            # the module lives as long as its functions
            functions = self._functions[source] = {"": self._driver.module_from_buffer(cubin)}
        function = functions.get(kernel)
        if function is None:
            function = functions[kernel] = functions[""].get_function(kernel)
            most = int(
                self._gpu.get_attribute(
                    self._driver.device_attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
                )
            )
            uses = self._driver.function_attribute
            room = most - int(function.get_attribute(uses.SHARED_SIZE_BYTES))
            if room > _SHARED_UNASKED:
                function.set_attribute(uses.MAX_DYNAMIC_SHARED_SIZE_BYTES, room)
        return function

    def _call(self, name: str, *args: Any) -> Any:
        status, *answer = getattr(self._bindings, name)(*args)
        if int(status) != 0:
            raise RuntimeError(f"backend: GPU {self.number} failed: {name}: {status.name}")
        return answer[0] if answer else None

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> RuntimeError:
        return RuntimeError(f"backend: GPU {self.number} failed: {_line(error)}")


def _value(arg: Argument) -> Any:
    if arg is None:
        return 0
    return arg.address if isinstance(arg, Span) else arg


def _bytes(array: Array) -> Array:
    # PyCUDA asks for a buffer, which NumPy refuses for types that are not its own
    return array.reshape(-1).view(np.uint8)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
