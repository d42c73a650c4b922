"""What arrays are taken: types, shapes, batches, and where a result may be written."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_TYPES = "float16, float32, float64 or bfloat16"
# Tells views of one array apart in almost all cases, in microseconds
_MOST_WORK: Any = 10_000
_CPU = 1  # DLPack's kDLCPU
# The bits of a float32 that TF32 drops, and half of their weight
_TF32_DROPPED, _TF32_HALF = 0x1FFF, 0x1000


class Operands(NamedTuple):
    """Two stacks of matrices of one type, (..., m, k) and (..., k, n), and their batch."""

    a: Array
    b: Array
    batch: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, k, n) of each product."""
        return self.a.shape[-2], self.a.shape[-1], self.b.shape[-1]

    @property
    def result_shape(self) -> tuple[int, ...]:
        """(..., m, n)."""
        return (*self.batch, self.a.shape[-2], self.b.shape[-1])

    def pair(self, index: tuple[int, ...]) -> tuple[Array, Array]:
        """The two matrices of one element of the batch."""
        return matrix_of(self.a, index), matrix_of(self.b, index)


def matrix_of(stack: Array, index: tuple[int, ...]) -> Array:
    """The matrix that broadcasting puts at an index of the batch."""
    matrix: Array = stack[own_index(stack, index)]
    return matrix


def own_index(stack: Any, index: tuple[int, ...]) -> tuple[int, ...]:
    """Where a stack has the matrix that broadcasting puts at an index of the batch."""
    own = index[len(index) - (stack.ndim - 2) :]
    return tuple(0 if size == 1 else i for i, size in zip(own, stack.shape, strict=False))


def checked_operands(a: Any, b: Any) -> Operands:
    """a and b as NumPy arrays that can be multiplied.

    Raises
    ------
    ValueError
        An operand is no array of a supported type or has fewer than two dimensions, their types
        differ, or their shapes do not fit each other as `numpy.matmul` would have it.
    """
    a, b = _checked_array(a, "a"), _checked_array(b, "b")
    if a.dtype != b.dtype:
        raise ValueError(f"b: expected the type of a, {a.dtype}, got {b.dtype}")
    return Operands(a, b, checked_batch(a.shape, b.shape))


def checked_batch(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The batch dimensions of a product of arrays of these shapes.

    Raises
    ------
    ValueError
        The shapes do not fit each other as `numpy.matmul` would have it.
    """
    for name, shape in (("a", a), ("b", b)):
        if len(shape) < 2:
            raise ValueError(f"{name}: expected at least two dimensions, got shape {shape}")
    if a[-1] != b[-2]:
        raise ValueError(f"a, b: expected shapes (..., m, k) and (..., k, n), got {a} and {b}")
    try:
        return np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(
            f"a, b: expected batch dimensions that broadcast, got {a} and {b}"
        ) from None


def checked_matrices(a: Any, b: Any, shape: tuple[int, int, int]) -> Operands:
    """Operands whose products have that shape (m, k, n); ValueError otherwise."""
    operands = checked_operands(a, b)
    check_plan_shape(shape, operands.a.shape, operands.b.shape)
    return operands


def check_plan_shape(shape: tuple[int, int, int], a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """ValueError unless arrays of these shapes are what a plan of shape (m, k, n) is for."""
    m, k, n = shape
    if (*a[-2:], *b[-2:]) != (m, k, k, n):
        raise ValueError(
            f"plan: it is for matrices {(m, k)} and {(k, n)}, got a and b of shapes {a} and {b}"
        )


def checked_out(out: Any, operands: Operands) -> Array:
    """`out`, or a new array of the operands' type where it is None.

    Raises
    ------
    ValueError
        It is no writeable NumPy array of the result's shape whose type is float32, float64 or the
        operands', it overlaps an operand, or its elements overlap each other.
    """
    shape, dtype = operands.result_shape, operands.a.dtype
    if out is None:
        return np.empty(shape, dtype=dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape:
        got = out.shape if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"out: expected a NumPy array of shape {shape}, got {got}")
    if out.dtype not in (np.dtype(np.float32), np.dtype(np.float64), dtype):
        raise ValueError(f"out: expected type float32, float64 or that of a, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out: expected an array that can be written to")
    if any(step == 0 and size > 1 for step, size in zip(out.strides, shape, strict=True)):
        raise ValueError("out: expected elements that do not share memory with each other")
    if overlap(out, operands.a) or overlap(out, operands.b):
        raise ValueError("out: expected memory of its own, it overlaps a or b")
    return out


def checked_precision(precision: Any, dtype: np.dtype[Any]) -> None:
    """ValueError unless precision is None, or "tf32" with float32 operands."""
    if precision not in (None, "tf32"):
        raise ValueError(f"precision: expected None or 'tf32', got {precision!r}")
    if precision == "tf32" and dtype != np.float32:
        raise ValueError(f"precision: 'tf32' expects float32 matrices, got {dtype}")


def rounded_to_tf32(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A copy with 10 bits of mantissa: to the nearest, ties away from zero, as cvt.rna.tf32 does.

    NaN and infinities stay what they are.
    """
    bits = array.view(np.uint32) if array.flags.c_contiguous else array.copy("C").view(np.uint32)
    rounded = ((bits + np.uint32(_TF32_HALF)) & np.uint32(~_TF32_DROPPED & 0xFFFFFFFF)).view(
        np.float32
    )
    return np.where(np.isfinite(array), rounded, array)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether it is ml_dtypes' bfloat16, which NumPy knows only once ml_dtypes is imported."""
    return dtype.name == "bfloat16"


def accumulator_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that products of this type are added up in: float64 for float64, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _checked_array(array: Any, name: str) -> Array:
    values = _as_numpy(array, name)
    dtype = values.dtype.newbyteorder("=")
    if not (dtype in (np.float16, np.float32, np.float64) or is_bfloat16(dtype)):
        raise ValueError(f"{name}: expected elements of type {_TYPES}, got {dtype}")
    return values.astype(dtype, copy=False)


def _as_numpy(array: Any, name: str) -> Array:
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name}: expected an array without a mask, got {type(array).__name__}")
    if isinstance(array, np.ndarray):
        return np.asarray(array)
    if hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == _CPU:
        try:
            return np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{name}: its memory cannot be read by NumPy: {reason}") from error
    raise ValueError(f"{name}: expected a NumPy array, got {type(array).__name__}")


def overlap(x: Array, y: Array) -> bool:
    """Whether two arrays share memory, or may: the exact answer can take too long."""
    try:
        return np.shares_memory(x, y, max_work=_MOST_WORK)
    except np.exceptions.TooHardError:
        return True
