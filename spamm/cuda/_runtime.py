"""The library's entry points on GPUs: plan, multiply, both at once, and plans for new values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._arrays import check_plan_shape
from spamm._backends import checked_block
from spamm._batch import BatchPlan
from spamm._criteria import checked_criterion
from spamm._plan import REUSE, Plan, Sizes, plan_from_lists
from spamm.cuda import _device
from spamm.cuda import _runtime_engine as engine
from spamm.cuda._device import devices, fetch_array
from spamm.cuda._runtime_choice import block_for, refusal
from spamm.cuda._runtime_operands import (
    Operands,
    Result,
    Sink,
    open_operands,
    open_result,
    uploaded,
)
from spamm.cuda._runtime_work import Work

Array = npt.NDArray[Any]


def default_block(m: int, k: int, n: int, dtype: np.dtype[Any]) -> Sizes:
    """Block sizes (bm, bk, bn) for an (m x k) by (k x n) product where the caller names none."""
    return block_for(devices()[0], (m, k, n), dtype.name)


def supports(block: Sizes, dtype: np.dtype[Any]) -> str | None:
    """None, or one line that says why this backend cannot do it."""
    return refusal(block, dtype.name, devices()[0].arch)


def norms(array: Array, rows: int, cols: int) -> npt.NDArray[np.float32]:
    """Frobenius norm of each block of a host's matrix, computed on the first GPU.

    Parameters
    ----------
    array
        Matrix (m, n) of float16, bfloat16 or float32, in any layout.
    rows, cols
        A block's size; blocks at the lower and right edge may be smaller.

    Returns
    -------
    Norms of shape (ceil(m / rows), ceil(n / cols)), rounded up, +inf for blocks with a NaN or an
    infinity.
    """
    m, n = array.shape
    shape = (-(-m // rows), -(-n // cols))
    if 0 in shape:
        return np.zeros(shape, np.float32)
    with _device.LOCK:
        matrix = uploaded(devices()[0], array)
        wait = fetch_array(matrix.device, engine.norms(matrix, rows, cols), np.float32)
    found: npt.NDArray[np.float32] = wait().reshape(shape)
    return found


def multiply(a: Array, b: Array, plan: Plan, out: Array) -> None:
    """Overwrite `out` with the plan's products of a (m x k) and b (k x n), host's matrices."""
    multiply_arrays(plan, a, b, out=out)


def multiply_tf32(a: Array, b: Array, plan: Plan, out: Array) -> None:
    """`multiply` of float32 matrices on tensor cores, which round them to TF32."""
    multiply_arrays(plan, a, b, out=out, precision="tf32")


def matmul(
    a: Any,
    b: Any,
    *,
    tau: float | None = None,
    valid_ratio: float | None = None,
    max_rel_error: float | None = None,
    block: Any = None,
    out: Any = None,
    precision: str | None = None,
    devices: Sequence[int] | None = None,
) -> Any:
    """`spamm.matmul` on GPUs, for arrays there or on the host.

    Parameters
    ----------
    a, b, tau, valid_ratio, max_rel_error, block, out, precision
        As for `spamm.matmul`.
    devices
        Numbers of GPUs that share the work, that of a and b among them; None for that alone, or
        the first for arrays of the host.

    Returns
    -------
    `out`, or a new array of the library that a is of: NumPy, PyTorch, CuPy and TVM, for others a
    `spamm.cuda.DeviceArray`. An array on a GPU is complete for whatever its library does next;
    where `valid_ratio` cannot be met, `out` may have been written to.
    """
    criterion = checked_criterion(tau, valid_ratio, max_rel_error)
    with _opened(a, b, devices, precision) as operands:
        sizes = _block(block, operands)
        result = open_result(out, operands)
        sink = Sink(result, operands)
        work = _work(operands, sizes, result, precision)
        checks = []
        for index in np.ndindex(operands.batch):
            target = sink.target(index)
            checks.append(work.multiply(index, criterion, target))
            sink.done(index, target)
        for check in checks:
            check()
        return sink.close()


def plan(
    a: Any,
    b: Any,
    *,
    tau: float | None = None,
    valid_ratio: float | None = None,
    max_rel_error: float | None = None,
    block: Any = None,
    precision: str | None = None,
) -> Plan | BatchPlan:
    """`spamm.plan` on a GPU; its lists stay there for `multiply_arrays`.

    Norms and tau are float32, norms rounded up and tau down: what is kept is never less than the
    host would keep, and the error bound as rigorous.
    """
    criterion = checked_criterion(tau, valid_ratio, max_rel_error)
    with _opened(a, b, None, precision) as operands:
        sizes = _block(block, operands)
        work = Work(operands, sizes, operands.dtype, precision)
        if not operands.batch:
            return work.plan((), criterion)
        plans = tuple(work.plan(index, criterion) for index in np.ndindex(operands.batch))
        return BatchPlan(operands.batch, plans, operands.shape, sizes)


def multiply_arrays(
    plan: Plan | BatchPlan,
    a: Any,
    b: Any,
    *,
    out: Any = None,
    precision: str | None = None,
    devices: Sequence[int] | None = None,
) -> Any:
    """`spamm.multiply` on GPUs, with a plan made anywhere; parameters as for `matmul`."""
    with _opened(a, b, devices, precision) as operands:
        _check_plan(plan, operands)
        result = open_result(out, operands)
        sink = Sink(result, operands)
        work = _work(operands, plan.block, result, precision)
        for index in np.ndindex(operands.batch):
            each = plan[index] if isinstance(plan, BatchPlan) else plan
            target = sink.target(index)
            work.multiply_plan(index, each, target)
            sink.done(index, target)
        return sink.close()


def refresh(plan: Plan | BatchPlan, a: Any, b: Any) -> Plan | BatchPlan:
    """`Plan.refresh` for arrays on a GPU: norms and new lists are made there."""
    with _opened(a, b, None, None) as operands:
        _check_plan(plan, operands)
        work = Work(operands, plan.block, operands.dtype, None)
        if isinstance(plan, Plan):
            return _refreshed(plan, work, ())
        plans = tuple(_refreshed(each, work, index) for index, each in plan.items())
        return BatchPlan(plan.batch, plans, plan.shape, plan.block)


@contextlib.contextmanager
def _opened(
    a: Any, b: Any, numbers: Sequence[int] | None, precision: str | None
) -> Iterator[Operands]:
    """The operands, their device current, and this thread alone with it."""
    with _device.LOCK:
        operands = open_operands(a, b, numbers, precision)
        with operands.home.current():
            yield operands


def _refreshed(plan: Plan, work: Work, index: tuple[int, ...]) -> Plan:
    fresh = work.plan(index, checked_criterion(plan.tau, None, None))
    if plan.blocks_valid > REUSE * fresh.blocks_valid:
        return fresh
    kept = plan_from_lists(
        fresh.norms_a, fresh.norms_b, plan.shape, plan.block, plan.tau, plan.offsets, plan.ks
    )
    return fresh if kept.error_bound > REUSE * fresh.error_bound else replace(kept, reused=True)


def _check_plan(plan: Plan | BatchPlan, operands: Operands) -> None:
    check_plan_shape(plan.shape, operands.a.shape, operands.b.shape)
    batch = plan.batch if isinstance(plan, BatchPlan) else ()
    if operands.batch != batch:
        raise ValueError(f"plan: it is for batch dimensions {batch}, got {operands.batch}")
    wrong = refusal(plan.block, operands.dtype, operands.home.arch)
    if wrong is not None:
        raise ValueError(f"plan: backend 'cuda' cannot use it: {wrong}")


def _block(block: Any, operands: Operands) -> Sizes:
    home, dtype = operands.home, operands.dtype
    if block is None:
        return block_for(home, operands.shape, dtype)
    sizes = checked_block(block)
    wrong = refusal(sizes, dtype, home.arch)
    if wrong is not None:
        raise ValueError(f"backend: 'cuda' cannot do this: {wrong}")
    return sizes


def _work(operands: Operands, block: Sizes, result: Result, precision: str | None) -> Work:
    out = result.value.dtype.name if result.stack is None else result.stack.dtype
    return Work(operands, block, out, precision)
