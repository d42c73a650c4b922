"""What a product on GPUs is given, checked: operands and result, on the host or on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spamm._arrays import (
    checked_batch,
    checked_operands,
    checked_out,
    checked_precision,
    overlap,
    own_index,
)
from spamm._backends import on_device
from spamm.cuda._device import Device, device, devices, fetch_array, upload_array
from spamm.cuda._interop import View, host_type, new_array, reader_stream, view
from spamm.cuda._runtime_choice import check_shape, refusal
from spamm.cuda._runtime_engine import new_matrix
from spamm.cuda._space import DEFAULT_BLOCK

Array = npt.NDArray[Any]
Index = tuple[int, ...]
Sizes = tuple[int, int, int]


class Operands(NamedTuple):
    """Two stacks of matrices of one type on one device.

    Attributes
    ----------
    a, b
        (..., m, k) and (..., k, n).
    batch
        What their batch dimensions broadcast to.
    given
        The caller's own arrays.
    devices
        What is to multiply, `home` among them.
    """

    a: View
    b: View
    batch: Index
    given: tuple[Any, Any]
    devices: tuple[Device, ...]

    @property
    def home(self) -> Device:
        """Where the operands are."""
        return self.a.device

    @property
    def dtype(self) -> str:
        """The name of their type."""
        return self.a.dtype

    @property
    def shape(self) -> Sizes:
        """(m, k, n) of each product."""
        return self.a.shape[-2], self.a.shape[-1], self.b.shape[-1]

    @property
    def on_host(self) -> bool:
        """Whether the caller's arrays are in the host's memory."""
        return not on_device(self.given[0])

    def pair(self, index: Index) -> tuple[View, View]:
        """The two matrices of one element of the batch."""
        return self.a.at(own_index(self.a, index)), self.b.at(own_index(self.b, index))


class Result(NamedTuple):
    """Where a result goes.

    Attributes
    ----------
    value
        The caller's array, or a new one.
    stack
        It, if it is on the operands' device, else None.
    """

    value: Any
    stack: View | None


def open_operands(a: Any, b: Any, numbers: Sequence[int] | None, precision: Any) -> Operands:
    """The operands on a device, those of the host as copies.

    Raises
    ------
    ValueError
        One is on the host and one on a device, they are on different ones, their types or shapes do
        not fit each other, a type cannot be multiplied, or a device is not there.
    """
    where = [on_device(each) for each in (a, b)]
    if where[0] != where[1]:
        kinds = " and ".join("on a GPU" if each else "in the host's memory" for each in where)
        raise ValueError(f"a, b: expected both on a GPU or both in the host's memory, got {kinds}")
    chosen = _checked_devices(numbers)
    if where[0]:
        first = view(a, "a")
        second = view(b, "b", first.device)
        if first.dtype != second.dtype:
            raise ValueError(f"b: expected the type of a, {first.dtype}, got {second.dtype}")
        batch = checked_batch(first.shape, second.shape)
    else:
        host = checked_operands(a, b)
        _check_type(host.a.dtype.name, devices()[0])
        home = chosen[0] if chosen else devices()[0]
        first, second = (uploaded(home, each) for each in (host.a, host.b))
        batch = host.batch
    home = first.device
    if chosen and home not in chosen:
        raise ValueError(f"devices: expected GPU {home.number}, where a and b are, among them")
    _check_type(first.dtype, home)
    checked_precision(precision, np.dtype(host_type(first.dtype)))
    operands = Operands(first, second, batch, (a, b), chosen or (home,))
    check_shape(operands.shape)
    return operands


def open_result(out: Any, operands: Operands) -> Result:
    """`out`, or where it is None a new array of the operands' library and type.

    Raises
    ------
    ValueError
        It is not of the result's shape, of float32, float64 or the operands' type, writeable, on
        the operands' device, or shares memory with an operand or within itself.
    """
    (m, _, n), batch = operands.shape, operands.batch
    shape = (*batch, m, n)
    if operands.on_host:
        return Result(checked_out(out, checked_operands(*operands.given)), None)
    if out is None:
        made = new_array(operands.given[0], shape, operands.dtype, operands.home)
        return Result(made, view(made, "out", operands.home))
    if not on_device(out):
        raise ValueError(
            f"out: expected an array on GPU {operands.home.number}, got {type(out).__name__}"
        )
    stack = view(out, "out", operands.home)
    if stack.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {stack.shape}")
    if stack.dtype not in ("float32", "float64", operands.dtype):
        raise ValueError(f"out: expected type float32, float64 or that of a, got {stack.dtype}")
    if stack.read_only:
        raise ValueError("out: expected an array that can be written to")
    if any(step == 0 and size > 1 for step, size in zip(stack.strides, shape, strict=True)):
        raise ValueError("out: expected elements that do not share memory with each other")
    if _shares_memory(stack, operands.a) or _shares_memory(stack, operands.b):
        raise ValueError("out: expected memory of its own, it overlaps a or b")
    return Result(out, stack)


class Sink:
    """Takes the products of a batch to where the caller wants them."""

    def __init__(self, result: Result, operands: Operands) -> None:
        self._result, self._operands = result, operands
        self._pending: list[Callable[[], None]] = []

    def target(self, index: Index) -> View:
        """The matrix on the device to write a product to."""
        if self._result.stack is not None:
            return self._result.stack.at(index)
        (m, _, n), operands = self._operands.shape, self._operands
        kind = self._result.value.dtype.name
        return new_matrix(operands.home, (m, n), "float32" if kind == "float64" else kind)

    def done(self, index: Index, target: View) -> None:
        """What `target` gave has been written, in the order of the stream."""
        if self._result.stack is not None or 0 in target.shape:
            return
        values = self._result.value
        wait = fetch_array(target.device, target.span, host_type(target.dtype))

        def store() -> None:
            values[index] = wait().reshape(target.shape)

        self._pending.append(store)

    def close(self) -> Any:
        """The caller's array; one of the host's is complete."""
        for store in self._pending:
            store()
        operands, value = self._operands, self._result.value
        if self._result.stack is not None:
            # memory of operands, too, may be given out again by their libraries after this
            readers = {reader_stream(each, operands.home) for each in (*operands.given, value)}
            for stream in filter(None, readers):
                operands.home.precede(stream)
        return value


def _checked_devices(numbers: Sequence[int] | None) -> tuple[Device, ...]:
    if numbers is None:
        return ()
    try:
        listed = [int(number) for number in numbers]
    except (TypeError, ValueError):
        listed = []
    if not listed or len(set(listed)) != len(listed):
        raise ValueError(f"devices: expected different numbers of GPUs, got {numbers!r}")
    return tuple(device(number) for number in listed)


def _check_type(dtype: str, home: Device) -> None:
    wrong = refusal(DEFAULT_BLOCK, dtype, home.arch)
    if wrong is not None:
        raise ValueError(wrong)


def uploaded(home: Device, array: Array) -> View:
    """A copy of a host's array on a device, row-major."""
    values = np.ascontiguousarray(array)
    span = upload_array(home, values)
    strides = tuple(step // values.itemsize for step in values.strides)
    return View(home, span.address, values.shape, strides, values.dtype.name, span.owner)


def _shares_memory(x: View, y: View) -> bool:
    (begin, end), (first, last) = x.extent, y.extent
    return begin < last and first < end and overlap(_as_numpy(x), _as_numpy(y))


def _as_numpy(stack: View) -> Array:
    """An array of NumPy's at the same address, which must only be asked where it lies."""

    interface = {
        "shape": stack.shape,
        "typestr": f"|V{stack.itemsize}",
        "strides": tuple(step * stack.itemsize for step in stack.strides),
        "data": (stack.address, True),
        "version": 3,
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface))
