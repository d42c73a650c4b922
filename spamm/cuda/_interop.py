"""Arrays of other libraries on a GPU, in and out, without copies.

In: `view` reads DLPack, which has every type and orders streams by itself, else
``__cuda_array_interface__`` (version 3). Out: `new_array` makes an array of the library that an
operand came from, where that library is loaded, else a `DeviceArray`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spamm.cuda import _device
from spamm.cuda._device import Device, Memory, Span
from spamm.cuda._interop_dlpack import CUDA_KINDS, KIND_OF, make_capsule, read_capsule

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


class View(NamedTuple):
    """An array in a device's memory, whoever it belongs to.

    Attributes
    ----------
    device
        Where it lies.
    address
        Of its first element.
    shape, strides
        Extents, and steps in elements.
    dtype
        A type's name, as `ITEM_BYTES` has them.
    owner
        What keeps the memory alive.
    read_only
        Whether its library says so.
    """

    device: Device
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    owner: Any
    read_only: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]

    @property
    def ndim(self) -> int:
        """Its number of dimensions."""
        return len(self.shape)

    @property
    def extent(self) -> tuple[int, int]:
        """The first byte's address, and that behind the last."""
        if 0 in self.shape:
            return self.address, self.address
        steps = [(size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)]
        low, high = sum(min(s, 0) for s in steps), sum(max(s, 0) for s in steps) + 1
        return self.address + low * self.itemsize, self.address + high * self.itemsize

    @property
    def span(self) -> Span:
        """As a kernel's argument, from the lowest address."""
        begin, end = self.extent
        return Span(begin, end - begin, self.itemsize, self.owner)

    @property
    def first(self) -> int:
        """Elements from the lowest address to the first of the array."""
        return (self.address - self.extent[0]) // self.itemsize

    @property
    def is_row_major(self) -> bool:
        """Whether a matrix's rows are contiguous, and one behind the other."""
        (m, n), (down, across) = self.shape, self.strides
        return (across == 1 or n <= 1) and (down >= n or m <= 1)

    @property
    def leading(self) -> int:
        """Elements from one row of a row-major matrix to the next."""
        return max(self.strides[0], self.shape[1], 1) if self.shape[0] > 1 else self.shape[1] or 1

    @property
    def transposed(self) -> View:
        """The transpose of a matrix, of the same memory."""
        return self._replace(shape=self.shape[::-1], strides=self.strides[::-1])

    def at(self, index: Sequence[int]) -> View:
        """A part, by indices into the first dimensions."""
        if not index:
            return self
        offset = sum(i * step for i, step in zip(index, self.strides, strict=False))
        address = self.address + offset * self.itemsize
        count = len(index)
        return self._replace(
            address=address, shape=self.shape[count:], strides=self.strides[count:]
        )

    def part(self, rows: slice, columns: slice) -> View:
        """A rectangle of a matrix; slices with both ends, without a step."""
        moved = self.at((rows.start,)).address + columns.start * self.strides[1] * self.itemsize
        return self._replace(
            address=moved, shape=(rows.stop - rows.start, columns.stop - columns.start)
        )


class DeviceArray:
    """An array on a GPU, for every library that reads DLPack or ``__cuda_array_interface__``.

    Attributes
    ----------
    shape
        Its extents; it is row-major.
    dtype
        The name of its type.
    """

    def __init__(self, device: Device, memory: Memory, shape: tuple[int, ...], dtype: str) -> None:
        self._device, self._memory = device, memory
        self.shape, self.dtype = shape, dtype

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self._device.number})"

    def numpy(self) -> npt.NDArray[Any]:
        """A copy in the host's memory; bfloat16 as ml_dtypes has it."""
        nbytes = math.prod(self.shape) * ITEM_BYTES[self.dtype]
        span = Span(self._memory.address, nbytes, ITEM_BYTES[self.dtype], self._memory)
        with _device.LOCK:
            wait = _device.fetch_array(self._device, span, host_type(self.dtype))
        return wait().reshape(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16, DLPack has")
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self._memory.address if 0 not in self.shape else 0, False),
            "strides": None,
            "stream": self._device.stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA_KINDS[0], self._device.number

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("DeviceArray: expected a reader on its own device, without a copy")
        if stream != -1:
            with _device.LOCK:
                # DLPack: None and 1 are the legacy default stream
                self._device.precede(1 if stream is None else int(stream))
        where = self.__dlpack_device__()
        return make_capsule(self._memory, self._memory.address, self.shape, self.dtype, where)


class _Library(NamedTuple):
    """How a library makes an array on a GPU, and its current stream there."""

    empty: Callable[[Any, tuple[int, ...], str, int], Any]
    stream: Callable[[Any, int], int]


def _tvm_stream(tvm: Any, number: int) -> int:
    import tvm_ffi

    return int(tvm_ffi.get_raw_stream(tvm_ffi.device(f"cuda:{number}")))


def _cupy_empty(cupy: Any, shape: tuple[int, ...], dtype: str, number: int) -> Any:
    with cupy.cuda.Device(number):
        return cupy.empty(shape, dtype)


def _cupy_stream(cupy: Any, number: int) -> int:
    with cupy.cuda.Device(number):
        return int(cupy.cuda.get_current_stream().ptr)


_LIBRARIES = {
    "torch": _Library(
        lambda torch, shape, dtype, number: torch.empty(
            shape, dtype=getattr(torch, dtype), device=f"cuda:{number}"
        ),
        lambda torch, number: int(torch.cuda.current_stream(number).cuda_stream),
    ),
    "cupy": _Library(_cupy_empty, _cupy_stream),
    "tvm": _Library(
        lambda tvm, shape, dtype, number: tvm.runtime.empty(shape, dtype, tvm.cuda(number)),
        _tvm_stream,
    ),
}
_PACKAGES = {"tvm_ffi": "tvm"}


def view(value: Any, name: str, home: Device | None = None) -> View:
    """The array in GPU memory that a value is, ready for its device's stream.

    Parameters
    ----------
    value
        Anything for which `spamm._backends.on_device` is true.
    name
        The argument, for messages.
    home
        The device that it must be on; None for any.

    Raises
    ------
    ValueError
        It lies on another device, or is not of a supported type or layout.
    """
    if hasattr(value, "__dlpack_device__"):
        found = _from_dlpack(value, name)
    else:
        found = _from_interface(value, name)
    if home is not None and found.device is not home:
        raise ValueError(
            f"{name}: expected an array on GPU {home.number}, it is on GPU {found.device.number}"
        )
    if found.address % found.itemsize:
        raise ValueError(f"{name}: expected elements at multiples of their size")
    library, module = _library(value)
    if library is not None:
        found.device.wait_for(library.stream(module, found.device.number))
    return found


def new_array(like: Any, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
    """An array of the library that `like` is of, not initialised; a `DeviceArray` for others.

    Raises
    ------
    RuntimeError
        There is too little memory.
    """
    library, module = _library(like)
    if library is not None and not (dtype == "bfloat16" and module.__name__ == "cupy"):
        try:
            return library.empty(module, shape, dtype, device.number)
        except (MemoryError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RuntimeError(
                f"backend: no memory on GPU {device.number} for a result of shape {shape}: {reason}"
            ) from None
    nbytes = max(1, math.prod(shape) * ITEM_BYTES[dtype])
    return DeviceArray(device, device.allocate(nbytes, lasting=True), shape, dtype)


def reader_stream(value: Any, device: Device) -> int | None:
    """The stream on which its library goes on with an array; None where readers ask themselves.

    For libraries that say nothing of their streams it is the one that the array names, or the
    legacy default stream.
    """
    if isinstance(value, DeviceArray):
        return None
    library, module = _library(value)
    if library is not None:
        return library.stream(module, device.number)
    return int((_interface(value) or {}).get("stream") or 1)


def host_type(dtype: str) -> npt.DTypeLike:
    """NumPy's type of a name."""
    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return dtype


def _library(value: Any) -> tuple[_Library | None, Any]:
    kind: Any = type(value)
    name = _library_name(kind)
    module = sys.modules.get(name) if name else None
    return (_LIBRARIES[name], module) if name and module is not None else (None, None)


@functools.lru_cache(maxsize=256)
def _library_name(kind: type) -> str | None:
    for each in kind.__mro__:
        package = each.__module__.partition(".")[0]
        name = _PACKAGES.get(package, package)
        if name in _LIBRARIES:
            return name
    return None


@functools.lru_cache(maxsize=64)
def _type_name(typestr: str) -> str:
    """Of a type that is not in this machine's order of bytes, no name of `ITEM_BYTES`."""
    dtype = np.dtype(typestr)
    return dtype.name if dtype.isnative else str(dtype)


def _interface(value: Any) -> dict[str, Any] | None:
    # PyTorch raises for what NumPy has no type for, and for tensors with a gradient
    try:
        found: dict[str, Any] | None = getattr(value, "__cuda_array_interface__", None)
    except Exception:
        return None
    return found


def _from_dlpack(value: Any, name: str) -> View:
    device = _device.device(int(value.__dlpack_device__()[1]), name)
    try:
        # stream 0 is ambiguous in DLPack; a device's own never is
        capsule = value.__dlpack__(stream=device.stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name}: its library does not give its memory away: {reason}") from None
    tensor = read_capsule(capsule)
    if tensor.dtype not in ITEM_BYTES:
        raise ValueError(_wrong_type(name, tensor.dtype))
    return View(device, tensor.address, tensor.shape, tensor.strides, tensor.dtype, capsule)


def _from_interface(value: Any, name: str) -> View:
    interface = _interface(value)
    if interface is None:
        raise ValueError(f"{name}: expected an array on a GPU, got {type(value).__name__}")
    if interface.get("mask") is not None:
        raise ValueError(f"{name}: expected an array without a mask")
    dtype = _type_name(interface["typestr"])
    if dtype not in ITEM_BYTES:
        raise ValueError(_wrong_type(name, dtype))
    size = ITEM_BYTES[dtype]
    shape = tuple(int(extent) for extent in interface["shape"])
    steps = interface.get("strides")
    if steps is None:
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    elif any(step % size for step in steps):
        raise ValueError(f"{name}: expected strides that are multiples of an element's size")
    else:
        strides = tuple(int(step) // size for step in steps)
    address, read_only = int(interface["data"][0] or 0), bool(interface["data"][1])
    device = _device_of(address, name)
    if interface.get("stream") is not None:
        device.wait_for(int(interface["stream"]))
    return View(device, address, shape, strides, dtype, value, read_only)


def _device_of(address: int, name: str) -> Device:
    every = _device.devices()
    if not address:
        return every[0]
    for each in every:
        if each.owns(address):
            return each
    raise ValueError(f"{name}: its address, {address:#x}, is in the memory of no GPU")


def _wrong_type(name: str, dtype: str) -> str:
    kinds = ", ".join(KIND_OF)
    return f"{name}: expected elements of type {kinds}, got {dtype}"
