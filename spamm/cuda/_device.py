"""GPUs as the runtime sees them: memory, copies, launches, and one stream that orders them.

Everything above this module runs on any `Device`. Work on a device is put in the order of its
stream, so that memory which nothing refers to any more can be given out again at once: whatever
uses it next comes later on the same stream.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spamm.cuda._launch import Launch

Array = npt.NDArray[Any]

ALIGNMENT = 256
"""Bytes that every allocation's address is a multiple of."""


class Memory(Protocol):
    """Memory on a device, given back when nothing refers to it."""

    @property
    def address(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True)
class Span:
    """Elements somewhere in a device's memory, as a kernel's argument.

    Attributes
    ----------
    address, nbytes
        Where they begin, and all that a kernel may touch.
    itemsize
        Bytes of an element.
    owner
        What keeps the memory alive.
    """

    address: int
    nbytes: int
    itemsize: int
    owner: Any = None


Argument = Span | np.generic | None


class Device(Protocol):
    """A GPU and its stream. All methods but `fetch`'s result and `synchronize` may return early.

    Attributes
    ----------
    number
        The driver's, as DLPack has it.
    name, arch
        Such as ``"NVIDIA H200"`` and ``"sm_90"``.
    multiprocessors
        How many there are.
    """

    number: int
    name: str
    arch: str
    multiprocessors: int

    @property
    def stream(self) -> int:
        """The handle of its stream."""

    def current(self) -> contextlib.AbstractContextManager[None]:
        """While it is open, the calling thread works on this device; may be nested."""

    def allocate(self, nbytes: int, *, lasting: bool = False) -> Memory:
        """Memory of at least one byte; lasting: for other streams too, so never reused early.

        Raises
        ------
        RuntimeError
            There is too little; the message says how much is free.
        """

    def upload(self, address: int, values: Array) -> None:
        """Copy a contiguous array here; the caller may change it when this returns."""

    def fetch(self, address: int, values: Array) -> Callable[[], None]:
        """Copy to a contiguous host array; what is returned waits until it is there."""

    def zero(self, address: int, nbytes: int) -> None:
        """Set bytes to zero."""

    def copy(self, address: int, source: Device, source_address: int, nbytes: int) -> None:
        """Copy from a device, after all that is on its stream now, to this one."""

    def launch(self, source: str, launch: Launch, args: Sequence[Argument]) -> None:
        """Launch a kernel of a CUDA text, which is compiled when it is first seen."""

    def resident(self, source: str, kernel: str, threads: int, shared_bytes: int) -> int:
        """How many of a kernel's thread blocks the device holds at a time, at least 1."""

    def wait_for(self, stream: int) -> None:
        """What comes next here waits for what is on another stream of this device now."""

    def precede(self, stream: int) -> None:
        """What comes next on another stream of this device waits for what is here now."""

    def wait_for_device(self, other: Device) -> None:
        """What comes next here waits for what is on another device's stream now."""

    def synchronize(self) -> None:
        """Wait for all that is on the stream; RuntimeError where any of it failed."""

    def owns(self, address: int) -> bool:
        """Whether memory of this device is at an address."""


LOCK = threading.RLock()
"""Held while work is put on streams: devices are shared by all threads of the process."""


def devices() -> tuple[Device, ...]:
    """This machine's GPUs, in the driver's order.

    Raises
    ------
    ImportError
        PyCUDA or the driver's bindings are missing, or the driver finds no GPU.
    """
    return _found()


@functools.cache
def _found() -> tuple[Device, ...]:
    from spamm.cuda._runtime_pycuda import find_devices

    return find_devices()


def device(number: int, argument: str = "devices") -> Device:
    """The GPU of a number; ValueError, which names the argument, where there is none."""
    every = devices()
    for each in every:
        if each.number == number:
            return each
    there = ", ".join(str(each.number) for each in every)
    raise ValueError(f"{argument}: expected GPUs of this machine, {there}, got {number!r}")


def upload_array(device: Device, values: Array) -> Span:
    """A contiguous host array in new memory of a device."""
    memory = device.allocate(max(1, values.nbytes))
    if values.nbytes:
        device.upload(memory.address, values)
    return Span(memory.address, values.nbytes, values.itemsize, memory)


def fetch_array(device: Device, span: Span, dtype: npt.DTypeLike) -> Callable[[], Array]:
    """What a device's memory holds now, for the host; call the result to wait for it."""
    values = np.empty(span.nbytes // np.dtype(dtype).itemsize, dtype)
    if not values.size:
        return lambda: values
    wait = device.fetch(span.address, values)

    def result() -> Array:
        wait()
        return values

    return result
