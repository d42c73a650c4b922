"""The inputs that a schedule is checked on: random ones, and the edges of the number line.

All are made from a seed, so that a process that checks needs no file to have the same ones as the
process that made the reference, and a reproducer may leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.check._rounding import finfo, is_float, numpy_dtype

# in the order in which they are tried: the one that shows most faults first
KINDS = ("normal", "zeros", "large", "denormals", "poisoned")
# one element in so many is a denormal number: processors take far longer with them, and a prime
# number meets every lane of a vector
_DENORMAL_EVERY = 17
# far above what N(0, 1) gives, far below what overflows in float16 when summed
_POISON_MARK = 64.0


@dataclass(frozen=True)
class Argument:
    """One parameter of a subgraph; `output` says that the subgraph writes it."""

    shape: tuple[int, ...]
    dtype: str
    output: bool


@dataclass(frozen=True)
class Recipe:
    """How inputs are made.

    Attributes
    ----------
    kind
        One of `KINDS`.
    exponent
        ``large`` inputs are N(0, 1) times two to this.
    positive
        Use ``|N(0, 1)| + 0.5`` in place of N(0, 1), for subgraphs that take roots or logarithms.
    variant
        Empty, or a change whose effect on the result tells what a right schedule may do:
        ``moved`` (each number by the relative `step`, up or down at random), ``flushed`` (denormal
        numbers to zero), ``raised`` and ``lowered`` (a large number where the poison was).
    """

    kind: str
    exponent: int = 0
    positive: bool = False
    variant: str = ""
    step: float = 0.0


def make_inputs(arguments: Sequence[Argument], recipe: Recipe, seed: int) -> list[Any]:
    """One array for each parameter of a subgraph.

    Integers are 0 or 1: they are often indices, and one outside its table would crash a schedule
    that is not at fault. What the subgraph writes is filled with NaN, or the largest integer, so
    that an element that is never written shows. Poison, which is NaN and both infinities, goes into
    the first floating-point input alone, in TVM's operators the data: the padding's zeros multiply
    the weights, and ``0 * NaN`` is 0 where TVM knows the zero at compile time and NaN elsewhere.
    """
    import numpy as np

    made: list[Any] = []
    poisoned = recipe.kind != "poisoned"
    for position, one in enumerate(arguments):
        rng = np.random.default_rng((seed, position))
        if one.output:
            made.append(_unwritten(one))
        elif not is_float(one.dtype):
            high = 1 if recipe.kind == "zeros" else 2
            made.append(rng.integers(0, high, one.shape).astype(numpy_dtype(one.dtype)))
        else:
            array = _numbers(one, recipe, rng)
            if not poisoned and array.size:
                _poison(array, recipe.variant, rng)
                poisoned = True
            made.append(array)
    return made


def large_exponents(length: int, dtypes: Sequence[str]) -> list[int]:
    """Powers of two to try for large inputs, largest first.

    With the first, sums of `length` products of two inputs stay below the largest finite number of
    every type, with room for the tail of N(0, 1) and for what is added after; the others are for
    subgraphs that multiply more than two inputs, or take exponentials.
    """
    most = min((float(finfo(d).max) for d in dtypes if is_float(d)), default=1.0)
    exponent = int((math.log2(most) - math.log2(length) - 8) / 2)
    found = []
    while exponent >= 3:
        found.append(exponent)
        exponent //= 4
    return found


def _numbers(one: Argument, recipe: Recipe, rng: Any) -> Any:
    import numpy as np

    dtype = numpy_dtype(one.dtype)
    if recipe.kind == "zeros":
        return np.zeros(one.shape, dtype)
    # the small types are rounded from float32, in which all below is computed for them
    wide = np.float64 if dtype.itemsize == 8 else np.float32
    array = rng.standard_normal(one.shape, dtype=wide)
    if recipe.positive:
        array = np.abs(array) + wide(0.5)
    if recipe.kind == "large":
        array = np.ldexp(array, recipe.exponent)
    if recipe.variant == "moved":
        signs = rng.integers(0, 2, one.shape, dtype=np.int8) * 2 - 1
        array = array * (wide(1) + wide(recipe.step) * signs)
    array = array.astype(dtype)
    if recipe.kind == "denormals":
        flat = array.reshape(-1)
        if recipe.variant == "flushed":
            flat[::_DENORMAL_EVERY] = 0
        else:
            small = flat[::_DENORMAL_EVERY].astype(np.float64)
            flat[::_DENORMAL_EVERY] = (small * float(finfo(one.dtype).smallest_normal) / 8).astype(
                dtype
            )
    return array


def _poison(array: Any, variant: str, rng: Any) -> None:
    import numpy as np

    flat = array.reshape(-1)
    where = rng.choice(flat.size, size=min(3, flat.size), replace=False)
    if variant:
        flat[where] = _POISON_MARK if variant == "raised" else -_POISON_MARK
    else:
        flat[where] = np.array([np.nan, np.inf, -np.inf])[: len(where)].astype(array.dtype)


def _unwritten(one: Argument) -> Any:
    import numpy as np

    dtype = numpy_dtype(one.dtype)
    if is_float(one.dtype):
        return np.full(one.shape, np.nan, dtype)
    return np.full(one.shape, True if dtype.kind == "b" else np.iinfo(dtype).max, dtype)
