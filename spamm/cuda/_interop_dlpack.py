"""DLPack's capsules: an array's memory, shape and type, handed from one library to another."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

CUDA_KINDS = (2, 13)
"""DLPack's numbers of a GPU's own memory, and of memory that it shares with the host."""
KIND_OF = {"float16": (2, 16), "bfloat16": (4, 16), "float32": (2, 32), "float64": (2, 64)}
"""DLPack's type code and bits, by a type's name."""
_NAME_OF = {kind: name for name, kind in KIND_OF.items()}
_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}
_CAPSULE = b"dltensor"


class Tensor(NamedTuple):
    """What a capsule holds; strides in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class _DLTensor(ctypes.Structure):
    # dlpack.h
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


class _DLManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DLManagedTensor))
_CapsuleDestructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DLManagedTensor._fields_ = (
    ("tensor", _DLTensor),
    ("manager", ctypes.c_void_p),
    ("deleter", _Deleter),
)

_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _CapsuleDestructor)(
    ("PyCapsule_New", _api)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
# by address: a capsule that is being destroyed must not be referred to again
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_pointer_of_dying = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

# What capsules in use refer to, by the address of their structure
_given: dict[int, Any] = {}


def read_capsule(capsule: Any) -> Tensor:
    """What a capsule holds. It is not consumed: the memory lives as long as the capsule does."""
    tensor = _DLTensor.from_address(_pointer(capsule, _CAPSULE))
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        strides = tuple(tensor.strides[: tensor.ndim])
    else:
        strides = tuple(_product(shape[i + 1 :]) for i in range(len(shape)))
    dtype = _NAME_OF.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        dtype = f"{_CODES.get(tensor.code, 'unknown')}{tensor.bits}"
    return Tensor((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype)


def make_capsule(
    owner: Any, address: int, shape: tuple[int, ...], dtype: str, device: tuple[int, int]
) -> Any:
    """A capsule for row-major memory, which `owner` keeps alive until the reader is done."""
    managed = _DLManagedTensor()
    extents = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    code, bits = KIND_OF[dtype]
    managed.tensor = _DLTensor(
        address, *device, len(shape), code, bits, 1, extents, ctypes.POINTER(ctypes.c_int64)(), 0
    )
    managed.deleter = _delete
    key = ctypes.addressof(managed)
    _given[key] = (managed, extents, owner)
    return _new(key, _CAPSULE, _destroy)


@_Deleter
def _delete(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


@_CapsuleDestructor
def _destroy(capsule: int) -> None:
    # a reader that takes the memory renames the capsule and calls the deleter itself
    if _is_valid(capsule, _CAPSULE):
        _given.pop(_pointer_of_dying(capsule, _CAPSULE), None)


def _product(extents: tuple[int, ...]) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result
