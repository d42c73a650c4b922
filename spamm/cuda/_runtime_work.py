"""Planning and multiplying the elements of a batch on GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from spamm._arrays import own_index
from spamm._criteria import Criterion
from spamm._guarantee import certain_from, multiply_until_proved, probed_norm
from spamm._norms import NORM_ERROR, Norms
from spamm._plan import Plan, Sizes, build_plan, grid
from spamm._select import nearer_is_more
from spamm.cuda import _multi, _runtime_lists
from spamm.cuda import _runtime_engine as engine
from spamm.cuda._config import MultiplyConfig
from spamm.cuda._device import Device, Span, fetch_array
from spamm.cuda._interop import View
from spamm.cuda._runtime_choice import config_for, unit_of
from spamm.cuda._runtime_engine import Lists
from spamm.cuda._runtime_operands import Index, Operands

_FLOAT32 = np.dtype(np.float32)
# Blocks that a result's norm is added up from, and what its float32 norms are rounded up by below
# the normal numbers
_BLOCK_OF_C = 256
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan on a device; norms and tau as well.

    Attributes
    ----------
    check
        Raises ValueError where the valid ratio that was asked for is not met; waits for that.
    config
        The kernel that the lists are ordered for.
    """

    norms_a: Span
    norms_b: Span
    tau: Span
    lists: Lists
    check: Callable[[], None]
    config: MultiplyConfig


class Work:
    """Products of one batch.

    Parameters
    ----------
    block
        SpAMM's blocks (bm, bk, bn).
    out
        The type of C.
    """

    def __init__(self, operands: Operands, block: Sizes, out: str, precision: str | None) -> None:
        self._operands, self.block, self._precision = operands, block, precision
        self._out = out if out == operands.dtype else "float32"
        self._unit = unit_of(operands.dtype, precision)
        self._norms: dict[tuple[str, Index], Span] = {}
        self._host_norms: dict[tuple[str, Index], Norms] = {}

    @property
    def empty(self) -> bool:
        """Whether there are no products at all."""
        return 0 in self._operands.shape

    def planned(self, index: Index, criterion: Criterion) -> Planned:
        """A plan for a criterion, made on the device."""
        home, sizes = self._operands.home, self._grid
        norms_a, norms_b = self._norms_of(index)
        shape = self._operands.shape
        if criterion.name == "valid_ratio" and criterion.value < 1:
            ratio = criterion.value
            config = self._config(home, shape, ratio)
            tiling = engine.tiling_of(config, shape)
            lists, tau, kept = engine.lists_for_ratio(home, sizes, tiling, norms_a, norms_b, ratio)
            check = partial(_check_ratio, ratio, kept, sizes)
            return Planned(norms_a, norms_b, tau, lists, check, config)
        if criterion.name == "max_rel_error":
            bound = criterion.bound(self._probable_norm(index))
            tau = self._tau_for_bound(index, bound if np.isfinite(bound) else 0.0)
        else:
            tau = engine.tau_span(home, criterion.value if criterion.name == "tau" else 0.0)
        config = self._config(home, shape, None)
        lists = engine.make_lists(
            home, sizes, engine.tiling_of(config, shape), norms_a, norms_b, tau
        )
        return Planned(norms_a, norms_b, tau, lists, _no_check, config)

    def host_plan(self, planned: Planned) -> Plan:
        """The plan for the host; the device's lists stay in use for it."""
        planned.check()
        operands = self._operands
        plan = engine.host_plan(
            operands.home,
            planned.lists,
            operands.shape,
            self.block,
            planned.norms_a,
            planned.norms_b,
            planned.tau,
        )
        _runtime_lists.keep(plan, operands.home, planned.lists)
        return plan

    def plan(self, index: Index, criterion: Criterion) -> Plan:
        """A plan for the host."""
        if self.empty:
            tau = criterion.value if criterion.name == "tau" else 0.0
            mb, kb, nb = self._grid
            norms = (np.zeros((mb, kb), np.float32), np.zeros((kb, nb), np.float32))
            return build_plan(*norms, self._operands.shape, self.block, tau)
        return self.host_plan(self.planned(index, criterion))

    def multiply(self, index: Index, criterion: Criterion, c: View) -> Callable[[], None]:
        """Plan and multiply; what is returned checks what `Planned.check` does."""
        if self.empty:
            engine.fill_zero(c)
            return _no_check
        if criterion.name == "max_rel_error":
            self._multiply_guaranteed(index, criterion, c)
            return _no_check
        planned = self.planned(index, criterion)
        if len(self._operands.devices) > 1:
            self.multiply_plan(index, self.host_plan(planned), c)
            return _no_check
        engine.multiply(*self._operands.pair(index), c, planned.lists, planned.config)
        return planned.check

    def multiply_plan(self, index: Index, plan: Plan, c: View) -> None:
        """Multiply what a plan of the host keeps."""
        if self.empty or not plan.blocks_valid:
            engine.fill_zero(c)
            return
        a, b = self._operands.pair(index)
        devices, home = self._operands.devices, self._operands.home
        if len(devices) > 1:
            _multi.multiply(plan, a, b, c, devices, self._config_of)
            return
        config = self._config_of(home, plan)
        tiling = engine.tiling_of(config, plan.shape)
        engine.multiply(a, b, c, _runtime_lists.lists_of(plan, home, tiling), config)

    def host_norms(self, index: Index) -> tuple[Norms, Norms]:
        """Block norms of A and B for the host."""
        mb, kb, nb = self._grid
        if self.empty:
            return np.zeros((mb, kb), np.float32), np.zeros((kb, nb), np.float32)
        a, b = (
            fetch_array(self._operands.home, span, np.float32) for span in self._norms_of(index)
        )
        return a().reshape(mb, kb), b().reshape(kb, nb)

    def _multiply_guaranteed(self, index: Index, criterion: Criterion, c: View) -> None:
        """Multiply until the result proves that the plan's bound is small enough."""
        # what is proved is proved of sums before they are rounded to a half-precision type
        exact = c.itemsize >= _FLOAT32.itemsize
        result = c if exact else engine.new_matrix(c.device, c.shape, "float32")
        plan = self.plan(index, criterion)
        multiply_until_proved(
            plan,
            criterion.value,
            lambda tried: self.multiply_plan(index, tried, result),
            lambda tried: certain_from(_norm_at_least(result), tried, _FLOAT32, self._precision),
            lambda bound: self._tightened(index, bound),
        )
        if result is not c:
            engine.copy(result, c)

    def _tightened(self, index: Index, bound: float) -> Plan:
        norms_a, norms_b = self._norms_of(index)
        tau = self._tau_for_bound(index, bound)
        home, shape = self._operands.home, self._operands.shape
        config = self._config(home, shape, None)
        tiling = engine.tiling_of(config, shape)
        lists = engine.make_lists(home, self._grid, tiling, norms_a, norms_b, tau)
        return self.host_plan(Planned(norms_a, norms_b, tau, lists, _no_check, config))

    def _tau_for_bound(self, index: Index, bound: float) -> Span:
        if not bound > 0:
            return engine.tau_span(self._operands.home, 0.0)
        norms_a, norms_b = self._norms_of(index)
        return engine.tau_for_bound(self._operands.home, self._grid, bound, norms_a, norms_b)

    def _probable_norm(self, index: Index) -> float:
        a, b = self._operands.pair(index)
        return probed_norm(
            partial(engine.probe, a),
            partial(engine.probe, b),
            b.shape[1],
            _FLOAT32,
            *self.host_norms(index),
        )

    def _norms_of(self, index: Index) -> tuple[Span, Span]:
        """Norms of both matrices at an index; those that broadcasting repeats only once."""
        (bm, bk, bn), (a, b), made = self.block, self._operands.pair(index), self._norms
        of_a = "a", own_index(self._operands.a, index)
        of_b = "b", own_index(self._operands.b, index)
        if of_a not in made and of_b not in made:
            made[of_a], made[of_b] = engine.norms_of_both(a, b, self.block)
        if of_a not in made:
            made[of_a] = engine.norms(a, bm, bk)
        if of_b not in made:
            made[of_b] = engine.norms(b, bk, bn)
        return made[of_a], made[of_b]

    def _config_of(self, device: Device, plan: Plan) -> MultiplyConfig:
        return self._config(device, plan.shape, plan.valid_ratio)

    def _config(self, device: Device, shape: Sizes, ratio: float | None) -> MultiplyConfig:
        dtype = self._operands.dtype
        return config_for(device, dtype, self._out, self._unit, shape, self.block, ratio)

    @property
    def _grid(self) -> Sizes:
        return grid(self._operands.shape, self.block)


def _no_check() -> None:
    """Nothing to check."""


def _check_ratio(ratio: float, kept: Callable[[], npt.NDArray[Any]], sizes: Sizes) -> None:
    more, fewer = (int(count) for count in kept())
    mb, kb, nb = sizes
    nearer_is_more(ratio, more, fewer, mb * kb * nb)


def _norm_at_least(result: View) -> float:
    """A lower bound on the Frobenius norm of a matrix as it is; waits for it."""
    blocks = fetch_array(
        result.device, engine.norms(result, _BLOCK_OF_C, _BLOCK_OF_C), np.float32
    )()
    wide = blocks.astype(np.float64)
    norm = float(np.sqrt(np.square(wide).sum())) * (1 - NORM_ERROR[_FLOAT32])
    at_least = norm - _SMALLEST * float(np.sqrt(wide.size))
    # sums have been rounded once more to be stored
    return max(0.0, at_least) * (1 - float(np.finfo(np.float32).eps))
