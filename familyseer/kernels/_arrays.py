"""Arrays of any library: where they lie, what they hold, and whether a kernel can take them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.kernels._manifest import Argument

# device types of DLPack: a GPU's own memory, and memory that it shares with the host
_DLPACK_CUDA = (2, 13)
_DLPACK_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


@dataclass(frozen=True)
class DeviceArray:
    """An array in a GPU's memory.

    Attributes
    ----------
    address
        Of its first element.
    contiguous
        Whether it is row-major and without gaps.
    owner
        What keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    contiguous: bool
    owner: Any


def device_array(value: Any, stream: int = 0) -> DeviceArray | None:
    """The array in GPU memory that a value is; None for one that is not on a GPU.

    Parameters
    ----------
    value
        Anything with ``__cuda_array_interface__`` or DLPack's ``__dlpack__``.
    stream
        Handle of the CUDA stream that the array will be used on; 0 is the default stream.
    """
    # PyTorch raises for types that NumPy does not have, where DLPack has them
    try:
        interface = getattr(value, "__cuda_array_interface__", None)
    except Exception:
        interface = None
    if interface is not None:
        return _from_interface(value, interface)
    where = getattr(value, "__dlpack_device__", None)
    if where is not None and int(where()[0]) in _DLPACK_CUDA:
        # 1 is DLPack's number of the legacy default stream
        return _from_capsule(value.__dlpack__(stream=stream or 1))
    return None


def producer_stream(value: Any) -> int | None:
    """Handle of the stream that may still be computing an array; None where it is done."""
    try:
        stream = value.__cuda_array_interface__.get("stream")
    except Exception:
        return None
    return None if stream is None else int(stream)


def _from_interface(value: Any, interface: dict[str, Any]) -> DeviceArray:
    shape = tuple(int(extent) for extent in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    return DeviceArray(
        address=int(interface["data"][0] or 0),
        shape=shape,
        dtype=str(dtype),
        contiguous=strides is None or _is_contiguous(shape, strides, dtype.itemsize),
        owner=value,
    )


class _DLTensor(ctypes.Structure):
    """DLPack's ``DLTensor`` (dlpack.h), which begins a ``DLManagedTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_capsule(capsule: Any) -> DeviceArray:
    open_capsule = ctypes.pythonapi.PyCapsule_GetPointer
    open_capsule.restype, open_capsule.argtypes = (
        ctypes.c_void_p,
        [ctypes.py_object, ctypes.c_char_p],
    )
    tensor = _DLTensor.from_address(open_capsule(capsule, b"dltensor"))
    shape = tuple(tensor.shape[: tensor.ndim])
    kind = _DLPACK_KINDS.get(tensor.code, "unknown")
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    return DeviceArray(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        dtype=kind if kind == "bool" else f"{kind}{tensor.bits}",
        contiguous=tensor.lanes == 1 and (strides is None or _is_contiguous(shape, strides, 1)),
        # the capsule was not consumed, so that its own end releases the tensor
        owner=capsule,
    )


def _is_contiguous(shape: Sequence[int], strides: Sequence[int], item: int) -> bool:
    if 0 in shape:
        return True
    expected = item
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def host_array(value: Any) -> NDArray[Any]:
    """A value in host memory as a NumPy array, without copying.

    Raises
    ------
    TypeError
        It is no array in host memory.
    """
    if isinstance(value, np.ndarray):
        return value
    where = getattr(value, "__dlpack_device__", None)
    if where is not None and int(where()[0]) == 1:
        return np.from_dlpack(value)
    raise TypeError(f"is a {type(value).__name__}")


def check(
    kernel: str,
    argument: Argument,
    shape: Sequence[int],
    dtype: str,
    whole: bool,
    address: int,
) -> None:
    """Makes sure that an array is what a kernel expects.

    Parameters
    ----------
    whole
        Whether it is row-major and without gaps.
    address
        Of its first element.

    Raises
    ------
    TypeError
        Its element type is another.
    ValueError
        Its shape is another, it is not contiguous, or its address not aligned.
    """
    named = f"{kernel}: argument {argument.name!r}"
    # NumPy alone has no bfloat16, so its bits are taken too
    if dtype != argument.dtype and (argument.dtype, dtype) != ("bfloat16", "uint16"):
        raise TypeError(f"{named} is {dtype}, expected {argument}")
    if not _fits(argument, tuple(shape)):
        raise ValueError(f"{named} has shape {list(shape)}, expected {argument}")
    if not whole:
        raise ValueError(f"{named} is not contiguous, expected a row-major {argument}")
    if address % argument.alignment:
        raise ValueError(
            f"{named} is not aligned in memory, expected an address that {argument.alignment} "
            "divides"
        )


def _fits(argument: Argument, shape: tuple[int, ...]) -> bool:
    if not argument.fewer or not shape:
        return shape == argument.shape
    return shape[0] <= argument.shape[0] and shape[1:] == argument.shape[1:]


def new_array(argument: Argument) -> NDArray[Any]:
    """An uninitialised array for an output; bfloat16 as ml_dtypes has it, or as bits without it."""
    if argument.dtype == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            return np.empty(argument.shape, np.uint16)
        return np.empty(argument.shape, bfloat16)
    return np.empty(argument.shape, argument.dtype)


def split(
    kernel: str, arguments: Sequence[Argument], given: Sequence[Any]
) -> tuple[list[Any], bool]:
    """What was given for each argument, None for outputs to be made, and whether those are.

    Raises
    ------
    TypeError
        The number of arrays is neither that of the inputs nor that of all arguments.
    """
    if len(given) == len(arguments):
        return list(given), False
    inputs = [argument for argument in arguments if not argument.output]
    if len(given) != len(inputs):
        listed = ", ".join(f"{argument.name}: {argument}" for argument in arguments)
        raise TypeError(
            f"{kernel}: {len(given)} arrays, expected {len(inputs)} inputs or all "
            f"{len(arguments)} of {listed}"
        )
    rest = iter(given)
    return [None if argument.output else next(rest) for argument in arguments], True


def result(outputs: Sequence[Any]) -> Any:
    """One output as it is, several as a tuple."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)
