"""The library's entry points: plan, multiply, and both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm import _backends
from spamm._arrays import (
    Operands,
    accumulator_type,
    checked_matrices,
    checked_operands,
    checked_out,
    checked_precision,
    own_index,
    rounded_to_tf32,
)
from spamm._batch import BatchPlan
from spamm._criteria import Criterion, checked_criterion
from spamm._guarantee import certain_norm, multiply_until_proved, probable_norm
from spamm._norms import Norms
from spamm._plan import Plan, build_plan
from spamm._select import tau_for_bound

Array = npt.NDArray[Any]


def matmul(
    a: Any,
    b: Any,
    *,
    tau: float | None = None,
    valid_ratio: float | None = None,
    max_rel_error: float | None = None,
    block: Any = None,
    backend: str = "auto",
    out: Any = None,
    precision: str | None = None,
    devices: Sequence[int] | None = None,
) -> Any:
    """A B without the block products that are too small to matter (SpAMM, arXiv 2103.13042).

    Parameters
    ----------
    a, b
        Arrays (..., m, k) and (..., k, n) of one type: float16, bfloat16, float32 or float64, in
        any layout; batch dimensions broadcast as `numpy.matmul` has it. Arrays on a CUDA device
        (of PyTorch, CuPy, TVM and others) are taken by DLPack or `__cuda_array_interface__`.
    tau
        Skip a product of blocks where its Frobenius norms multiply to less; 0 skips nothing.
    valid_ratio
        The share of block products that is kept, met within 0.01: above 0, at most 1.
    max_rel_error
        ||C - C~||_F <= max_rel_error ||C||_F is guaranteed, for the given values and apart from
        rounding: at least 0, below 1. What the result proves of ||C||_F is checked afterwards,
        and more is kept where that is too little; an operand with a NaN or an infinity is
        multiplied without skipping. For a batch it holds for every product.
    block
        Block sizes (bm, bk, bn), or one for all three; None for the backend's own.
    backend
        "numpy", "cpu" (compiled by TVM), "cuda", or "auto": where the arrays lie, else "cpu" if
        TVM is there, else "numpy".
    out
        Where to write the result (..., m, n): float32, float64 or the operands' type, any layout.
    precision
        "tf32" rounds float32 operands to 10 bits of mantissa, as tensor cores do.
    devices
        Numbers of the GPUs that share the work, for the backend "cuda"; None for the one that the
        arrays are on, or the first.

    Returns
    -------
    `out`, or a new array of the operands' type, on a device one of a's library. Products are added
    up in float64 for float64 and in float32 for the other types.

    Raises
    ------
    ValueError
        An argument is not as described, not exactly one criterion is given, or the valid ratio
        cannot be met.
    RuntimeError
        The backend needs what this machine lacks.
    """
    device_backend = _backends.for_devices(backend, a, b, devices)
    if device_backend is not None:
        return device_backend.matmul(
            a,
            b,
            tau=tau,
            valid_ratio=valid_ratio,
            max_rel_error=max_rel_error,
            block=block,
            out=out,
            precision=precision,
            devices=devices,
        )
    operands = checked_operands(a, b)
    criterion = checked_criterion(tau, valid_ratio, max_rel_error)
    checked_precision(precision, operands.a.dtype)
    result = checked_out(out, operands)
    work = _Work(operands, block, backend, precision)
    for index in np.ndindex(operands.batch):
        plan = work.plan(index, criterion)
        if criterion.name == "max_rel_error":
            work.multiply_guaranteed(index, plan, result[index], criterion.value)
        else:
            work.multiply(index, plan, result[index])
    return result


def plan(
    a: Any,
    b: Any,
    *,
    tau: float | None = None,
    valid_ratio: float | None = None,
    max_rel_error: float | None = None,
    block: Any = None,
    backend: str = "auto",
    precision: str | None = None,
) -> Plan | BatchPlan:
    """What `matmul` would compute, to look at, keep and use again with `multiply`.

    The parameters are those of `matmul`. For `max_rel_error` ||C||_F is estimated (cautiously, by
    random probes), so that ``plan.error_bound <= max_rel_error ||C||_F`` is likely but, other than
    the bound itself, not guaranteed: `matmul` checks it with the result.

    Returns
    -------
    A `Plan`, or a `BatchPlan` where an operand has batch dimensions.
    """
    device_backend = _backends.for_devices(backend, a, b)
    if device_backend is not None:
        made: Plan | BatchPlan = device_backend.plan(
            a,
            b,
            tau=tau,
            valid_ratio=valid_ratio,
            max_rel_error=max_rel_error,
            block=block,
            precision=precision,
        )
        return made
    operands = checked_operands(a, b)
    criterion = checked_criterion(tau, valid_ratio, max_rel_error)
    checked_precision(precision, operands.a.dtype)
    work = _Work(operands, block, backend, precision)
    if not operands.batch:
        return work.plan((), criterion)
    plans = tuple(work.plan(index, criterion) for index in np.ndindex(operands.batch))
    return BatchPlan(operands.batch, plans, operands.shape, work.block)


def multiply(
    plan: Plan | BatchPlan,
    a: Any,
    b: Any,
    *,
    backend: str = "auto",
    out: Any = None,
    precision: str | None = None,
    devices: Sequence[int] | None = None,
) -> Any:
    """The products that a plan keeps, for the matrices it was made from or others of their shape.

    Its error bound holds for the values that it was made from; `Plan.refresh` adapts it to others.

    Parameters
    ----------
    plan
        Of `spamm.plan`, for the shapes of a and b.
    a, b, backend, out, precision, devices
        As for `matmul`.

    Returns
    -------
    `out`, or a new array of the operands' type.
    """
    if not isinstance(plan, Plan | BatchPlan):
        raise ValueError(f"plan: expected a plan of spamm.plan, got {type(plan).__name__}")
    device_backend = _backends.for_devices(backend, a, b, devices)
    if device_backend is not None:
        return device_backend.multiply_arrays(
            plan, a, b, out=out, precision=precision, devices=devices
        )
    operands = checked_matrices(a, b, plan.shape)
    batch = plan.batch if isinstance(plan, BatchPlan) else ()
    if operands.batch != batch:
        raise ValueError(f"plan: it is for batch dimensions {batch}, got {operands.batch}")
    checked_precision(precision, operands.a.dtype)
    result = checked_out(out, operands)
    work = _Work(operands, plan.block, backend, precision)
    for index in np.ndindex(batch):
        each = plan[index] if isinstance(plan, BatchPlan) else plan
        work.multiply(index, each, result[index])
    return result


class _Work:
    """Planning and multiplying the elements of a batch with one backend."""

    def __init__(self, operands: Operands, block: Any, backend: str, precision: str | None) -> None:
        dtype = operands.a.dtype
        self._module, self.block = _backends.resolve(backend, block, dtype, operands.shape)
        self._operands, self._precision = operands, precision
        self._norms: dict[tuple[str, tuple[int, ...]], Norms] = {}

    def plan(self, index: tuple[int, ...], criterion: Criterion) -> Plan:
        a, b = self._operands.pair(index)
        norms_a, norms_b = self._norms_of(index)
        tau = criterion.tau(norms_a, norms_b, lambda: probable_norm(a, b, norms_a, norms_b))
        return self._build(norms_a, norms_b, tau)

    def multiply(self, index: tuple[int, ...], plan: Plan, out: Array) -> None:
        a, b = self._operands.pair(index)
        run = self._module.multiply
        if self._precision == "tf32":
            native = getattr(self._module, "multiply_tf32", None)
            if native is None:
                a, b = rounded_to_tf32(a), rounded_to_tf32(b)
            run = native or run
        run(a, b, plan, out)

    def multiply_guaranteed(
        self, index: tuple[int, ...], plan: Plan, out: Array, max_rel_error: float
    ) -> None:
        """Multiply until the result proves that the plan's bound is small enough."""
        dtype = self._operands.a.dtype
        # what is proved is proved of sums before they are rounded to a half-precision type
        exact = out.dtype.itemsize >= accumulator_type(dtype).itemsize
        result = out if exact else np.empty(out.shape, dtype=accumulator_type(dtype))
        multiply_until_proved(
            plan,
            max_rel_error,
            lambda tried: self.multiply(index, tried, result),
            lambda tried: certain_norm(result, tried, dtype, self._precision),
            lambda bound: self._tightened(plan, bound),
        )
        if result is not out:
            with np.errstate(all="ignore"):
                np.copyto(out, result, casting="unsafe")

    def _tightened(self, plan: Plan, bound: float) -> Plan:
        tau = tau_for_bound(plan.norms_a, plan.norms_b, bound) if bound > 0 else 0.0
        return self._build(plan.norms_a, plan.norms_b, tau)

    def _build(self, norms_a: Norms, norms_b: Norms, tau: float) -> Plan:
        build = getattr(self._module, "build_plan", build_plan)
        made: Plan = build(norms_a, norms_b, self._operands.shape, self.block, tau)
        return made

    def _norms_of(self, index: tuple[int, ...]) -> tuple[Norms, Norms]:
        """Norms of both matrices at an index; those that broadcasting repeats only once."""
        bm, bk, bn = self.block
        found = []
        for name, stack, rows, cols in (
            ("a", self._operands.a, bm, bk),
            ("b", self._operands.b, bk, bn),
        ):
            key = (name, own_index(stack, index))
            if key not in self._norms:
                self._norms[key] = self._module.norms(stack[key[1]], rows, cols)
            found.append(self._norms[key])
        return found[0], found[1]
