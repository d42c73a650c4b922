"""Kernels of a CUDA library, run through PyCUDA."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from familyseer.kernels import _arrays
from familyseer.kernels._binaries import choose_binary
from familyseer.kernels._manifest import SCALARS, Argument, Entry, Launch, Manifest, Scalar

# what a block may use of shared memory without asking
_SHARED_UNASKED = 48 << 10


class Gpu:
    """A GPU that kernels of a library are loaded on.

    Parameters
    ----------
    device
        Its number, where PyCUDA has no current context.

    Raises
    ------
    ImportError
        PyCUDA is not installed.
    OSError
        There is no such GPU.
    ValueError
        The library has nothing that runs on it.
    """

    def __init__(self, manifest: Manifest, device: int) -> None:
        try:
            import pycuda.driver as driver
        except ImportError as error:
            raise ImportError(
                f"{manifest.folder}: kernels for CUDA need PyCUDA ({error}); "
                "expected pip install pycuda"
            ) from None
        self.driver = driver
        try:
            driver.init()
            self._own = None
            if driver.Context.get_current() is None:
                self._own = driver.Device(device).retain_primary_context()
            with self.active():
                self.capability = tuple(driver.Context.get_device().compute_capability())
        except driver.Error as error:
            raise OSError(
                f"{manifest.folder}: kernels for CUDA need a GPU; number {device} cannot be used "
                f"({_line(error)})"
            ) from None
        for entry in manifest.entries.values():
            if entry.cuda is not None:
                choose_binary(manifest, entry.cuda, self.capability)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Makes the GPU's context current for PyCUDA where none is.

        It is not left so: PyCUDA ends the process where a context is current when Python exits.
        """
        if self._own is None or self.driver.Context.get_current() is not None:
            yield
            return
        self._own.push()
        try:
            yield
        finally:
            self._own.pop()


class CudaKernel:
    """One kernel of a CUDA library."""

    def __init__(self, gpu: Gpu, manifest: Manifest, entry: Entry) -> None:
        if entry.cuda is None:
            raise ValueError(f"{manifest.folder}: {entry.name} has no CUDA code")
        self._gpu, self._driver = gpu, gpu.driver
        self._name, self._arguments, self._code = entry.name, entry.arguments, entry.cuda
        binary = manifest.folder / choose_binary(manifest, entry.cuda, gpu.capability)
        with gpu.active():
            try:
                self._module = self._driver.module_from_buffer(binary.read_bytes())
                self._functions = [self._function(launch) for launch in self._code.launches]
            except self._driver.Error as error:
                raise OSError(f"{binary}: cannot be loaded on this GPU ({_line(error)})") from None
        # of each stream, so that kernels queued on two do not share what they write
        self._workspaces: dict[int, Any] = {}
        self._lock = threading.Lock()

    def _function(self, launch: Launch) -> Any:
        function = self._module.get_function(launch.function)
        if launch.shared_bytes > _SHARED_UNASKED:
            attribute = self._driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(attribute, launch.shared_bytes)
        kinds = (SCALARS[one.dtype] if isinstance(one, Scalar) else "P" for one in launch.arguments)
        return function.prepare("".join(kinds))

    def __call__(self, *given: Any, stream: Any = None) -> Any:
        values, make = _arrays.split(self._name, self._arguments, given)
        with self._gpu.active():
            try:
                return self._run(values, make, stream)
            except self._driver.Error as error:
                raise RuntimeError(f"{self._name}: failed on the GPU ({_line(error)})") from None

    def _run(self, values: list[Any], make: bool, stream: Any) -> Any:
        handle = 0 if stream is None else int(stream.handle)
        found = [None if value is None else _arrays.device_array(value, handle) for value in values]
        on_gpu = any(array is not None for array in found)
        pointers: dict[str, int] = {}
        downloads: list[tuple[Any, int]] = []
        # what must outlive the launches
        kept: list[Any] = [array.owner for array in found if array is not None]
        for i, argument in enumerate(self._arguments):
            array = found[i]
            if array is None and values[i] is None and on_gpu:
                values[i] = self._empty(argument)
                array = _arrays.device_array(values[i])
            if array is not None:
                _arrays.check(
                    self._name,
                    argument,
                    array.shape,
                    array.dtype,
                    array.contiguous,
                    array.address,
                )
                pointers[argument.name] = array.address
                self._wait_for(values[i], handle)
                continue
            if values[i] is None:
                values[i] = _arrays.new_array(argument)
            host = self._host(argument, values[i])
            memory = self._driver.mem_alloc(max(1, host.nbytes))
            kept.append(memory)
            pointers[argument.name] = int(memory)
            if argument.output:
                downloads.append((host, int(memory)))
            elif host.nbytes:
                self._driver.memcpy_htod(int(memory), _bytes(host))
        self._launch(pointers, stream, handle)
        if len(kept) > sum(array is not None for array in found):
            # memory that was allocated here is freed when this returns
            self._driver.Context.synchronize()
        for host, address in downloads:
            if host.nbytes:
                self._driver.memcpy_dtoh(_bytes(host), address)
        return _arrays.result(
            [value for value, arg in zip(values, self._arguments, strict=True) if arg.output]
        )

    def _launch(self, pointers: dict[str, int], stream: Any, handle: int) -> None:
        with self._lock:
            base = self._workspace(handle)
            for function, launch in zip(self._functions, self._code.launches, strict=True):
                addresses = [passed(one, pointers, base) for one in launch.arguments]
                function.prepared_async_call(
                    launch.grid, launch.block, stream, *addresses, shared_size=launch.shared_bytes
                )

    def _workspace(self, handle: int) -> int:
        if not self._code.workspace_bytes:
            return 0
        if handle not in self._workspaces:
            self._workspaces[handle] = self._driver.mem_alloc(self._code.workspace_bytes)
        return int(self._workspaces[handle])

    def _host(self, argument: Argument, value: Any) -> Any:
        try:
            array = _arrays.host_array(value)
        except TypeError as error:
            raise TypeError(
                f"{self._name}: argument {argument.name!r} {error}, expected an array in GPU "
                "memory or a NumPy array"
            ) from None
        # copied to memory of its own, which is aligned
        _arrays.check(
            self._name, argument, array.shape, str(array.dtype), array.flags.c_contiguous, 0
        )
        if argument.output and not array.flags.writeable:
            raise ValueError(f"{self._name}: argument {argument.name!r} is an output and read-only")
        return array

    def _empty(self, argument: Argument) -> Any:
        from pycuda import gpuarray

        # PyCUDA's arrays hold NumPy's types alone
        dtype = "uint16" if argument.dtype == "bfloat16" else argument.dtype
        return gpuarray.empty(argument.shape, dtype)

    def _wait_for(self, value: Any, handle: int) -> None:
        """Waits for what another stream may still be writing; 1 is the legacy default stream."""
        producer = _arrays.producer_stream(value)
        if producer is not None and (handle or 1) != producer:
            self._driver.Context.synchronize()


def passed(argument: str | int | Scalar | None, pointers: Mapping[str, int], workspace: int) -> int:
    """What a launch passes: an address, or a number.

    Parameters
    ----------
    pointers
        Addresses of the kernel's arguments.
    workspace
        Address of its workspace.
    """
    if argument is None:
        return 0
    if isinstance(argument, Scalar):
        return argument.value
    return pointers[argument] if isinstance(argument, str) else workspace + argument


def _bytes(array: Any) -> Any:
    # PyCUDA asks for a buffer, which NumPy refuses for types that are not its own
    return array.reshape(-1).view("uint8")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
