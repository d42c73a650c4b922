"""Kernels of a CPU library, called through ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.kernels import _arrays
from familyseer.kernels._manifest import Argument, Entry, Manifest, this_machine

SUPPORTED = "fs_cpu_supported"


def open_library(manifest: Manifest) -> ctypes.CDLL:
    """Loads the shared object of a CPU library.

    Raises
    ------
    ValueError
        It is for another kind of machine, or this processor lacks what it was built for.
    OSError
        It cannot be loaded.
    """
    built_for, here = (manifest.machine, manifest.system), this_machine()
    if built_for != here:
        raise ValueError(
            f"{manifest.folder}: kernels for {' '.join(built_for)[:80]}, this machine is "
            f"{' '.join(here)}"
        )
    path = (manifest.folder / str(manifest.library)).resolve()
    try:
        library = ctypes.CDLL(str(path))
        supported = library[SUPPORTED]
    except (OSError, AttributeError) as error:
        raise OSError(f"{path}: cannot be loaded ({error})") from None
    if not supported():
        raise ValueError(
            f"{manifest.folder}: kernels for a CPU with the instructions of {manifest.arch[:80]}, "
            "which this one lacks"
        )
    return library


class CpuKernel:
    """One kernel of a CPU library."""

    def __init__(self, library: ctypes.CDLL, manifest: Manifest, entry: Entry) -> None:
        self._name, self._arguments = entry.name, entry.arguments
        try:
            self._function = library[str(entry.symbol)]
        except AttributeError:
            raise ValueError(
                f"{manifest.folder}: {manifest.library} has no {entry.symbol}; export it anew"
            ) from None
        self._function.argtypes = [ctypes.c_void_p] * len(entry.arguments)
        self._function.restype = ctypes.c_int

    def __call__(self, *given: Any, stream: Any = None) -> Any:
        if stream is not None:
            raise TypeError(f"{self._name}: a kernel of a CPU library takes no stream")
        values, make = _arrays.split(self._name, self._arguments, given)
        arrays = [
            _arrays.new_array(argument) if value is None else self._checked(argument, value)
            for argument, value in zip(self._arguments, values, strict=True)
        ]
        self._refuse_overlaps(arrays)
        code = self._function(*(array.ctypes.data for array in arrays))
        if code:
            raise RuntimeError(f"{self._name}: failed with code {code}, out of memory or threads")
        # what was given is given back, and not a view of it
        outputs = arrays if make else values
        return _arrays.result(
            [out for out, arg in zip(outputs, self._arguments, strict=True) if arg.output]
        )

    def _checked(self, argument: Argument, value: Any) -> NDArray[Any]:
        try:
            array = _arrays.host_array(value)
        except TypeError as error:
            raise TypeError(
                f"{self._name}: argument {argument.name!r} {error}, expected a NumPy array"
            ) from None
        address = array.ctypes.data
        _arrays.check(
            self._name,
            argument,
            array.shape,
            str(array.dtype),
            array.flags.c_contiguous,
            address,
        )
        if address % array.dtype.itemsize:
            raise ValueError(f"{self._name}: argument {argument.name!r} is not aligned in memory")
        if argument.output and not array.flags.writeable:
            raise ValueError(f"{self._name}: argument {argument.name!r} is an output and read-only")
        return array

    def _refuse_overlaps(self, arrays: list[NDArray[Any]]) -> None:
        """The compiler took it for granted that what is written is not read through another."""
        for i, out in enumerate(arrays):
            if not self._arguments[i].output:
                continue
            for j, other in enumerate(arrays):
                if i != j and np.may_share_memory(out, other):
                    raise ValueError(
                        f"{self._name}: arguments {self._arguments[i].name!r} and "
                        f"{self._arguments[j].name!r} share memory, expected arrays of their own"
                    )
