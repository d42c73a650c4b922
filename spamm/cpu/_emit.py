"""What the generators of the CPU's functions share: arguments, buffers, vectors, types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812

# Bounds are the caller's to keep: buffers are bare pointers, declared larger than any memory.
_UNBOUNDED = 1 << 60


def parameters(pointers: dict[str, str], sizes: str) -> tuple[list[Any], list[Any]]:
    """The parameters of a function under construction: pointers as buffers, then sizes.

    `pointers` gives the type of the elements by name, where bfloat16 is read as its bits; `sizes`
    names integers of 64 bits, separated by blanks.
    """
    stored = {n: "uint16" if dtype == "bfloat16" else dtype for n, dtype in pointers.items()}
    handles = {name: T.arg(name, T.handle(dtype)) for name, dtype in stored.items()}
    integers = [T.arg(name, T.int64()) for name in sizes.split()]
    buffers = [T.decl_buffer((_UNBOUNDED,), stored[n], data=data) for n, data in handles.items()]
    return buffers, integers


class Function:
    """A function under construction; `result` is its PrimFunc once the context is left."""

    result: Any = None


@contextmanager
def function(name: str) -> Iterator[Function]:
    """Statements made inside become the body of a function that the module exports."""
    made = Function()
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(name)
            T.func_attr({"tirx.noalias": True})
            yield made
        made.result = builder.get()


def module(*functions: Any) -> tvm.IRModule:
    """The functions as one module."""
    return tvm.IRModule(
        {each.attrs["global_symbol"]: each for each in functions},
    )


@contextmanager
def loop(first: Any, last: Any) -> Iterator[Any]:
    """A loop whose variable runs from `first` to below `last`.

    Lowering a loop that begins elsewhere than at zero leaves its variable as it was in the bounds
    of loops inside of it (TVM 0.27), so this one begins at zero.
    """
    with T.serial(0, last - first) as step:
        yield T.Bind(first + step)


def local(lanes: int, dtype: str) -> Any:
    """A vector that LLVM keeps in registers, as every access to it has a constant index."""
    return T.alloc_buffer((lanes,), dtype)


def at(index: Any, lanes: int) -> Any:
    """The indices of a vector that begins at `index`."""
    return tirx.Ramp(index, 1, lanes) if lanes > 1 else index


def whole(vector: Any, lanes: int) -> Any:
    """All elements of a local vector."""
    return vector[at(zero(), lanes)]


def put(vector: Any, value: Any, lanes: int) -> None:
    """Sets all elements of a local vector."""
    T.buffer_store(vector, value, [at(zero(), lanes)])


def zero() -> Any:
    """Zero, as an index."""
    return tirx.IntImm("int64", 0)


def constant(value: float, dtype: str, lanes: int = 1) -> Any:
    """A number, in every lane."""
    number = tirx.FloatImm(dtype, value)
    return tirx.Broadcast(number, lanes) if lanes > 1 else number


def quotient(a: Any, b: Any) -> Any:
    """a / b rounded down, for sizes: lowering a floor division of signs unknown takes seconds."""
    return tirx.truncdiv(a, b)


def ceil_quotient(a: Any, b: Any) -> Any:
    """a / b rounded up, for sizes."""
    return tirx.truncdiv(a + (b - 1), b)


def widen(dtype: str, sums: str) -> Callable[[Any, int], Any]:
    """From elements as they are stored to the type of the sums, exactly."""

    def convert(value: Any, lanes: int) -> Any:
        if dtype == sums:
            return value
        suffix = f"x{lanes}" if lanes > 1 else ""
        if dtype != "bfloat16":
            return T.Cast(sums + suffix, value)
        # a bfloat16 is the upper half of a float32
        shift = tirx.IntImm("uint32", 16)
        wide = T.Cast("uint32" + suffix, value)
        single = T.reinterpret(
            "float32" + suffix,
            tirx.shift_left(wide, tirx.Broadcast(shift, lanes) if lanes > 1 else shift),
        )
        return single if sums == "float32" else T.Cast(sums + suffix, single)

    return convert
