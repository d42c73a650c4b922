"""The plans of a batch of products."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spamm._arrays import checked_matrices
from spamm._plan import Plan, Sizes
from spamm._plan_file import read_plans, write_plans


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """One plan for each product of a batch; all have the same shape and block sizes.

    Attributes
    ----------
    batch
        The batch dimensions that the operands broadcast to.
    plans
        The plans in C order of the batch.
    """

    batch: tuple[int, ...]
    plans: tuple[Plan, ...]
    shape: Sizes
    block: Sizes

    def __post_init__(self) -> None:
        fit = all((each.shape, each.block) == (self.shape, self.block) for each in self.plans)
        if len(self.plans) != math.prod(self.batch) or not fit:
            raise ValueError(
                f"plans: expected {math.prod(self.batch)} plans of shape {self.shape} and block"
                f" {self.block}"
            )

    def __getitem__(self, index: int | tuple[int, ...]) -> Plan:
        """The plan of one element of the batch; IndexError as NumPy's."""
        return self.plans[int(np.arange(len(self.plans)).reshape(self.batch)[index])]

    def items(self) -> Iterator[tuple[tuple[int, ...], Plan]]:
        """Indices into the batch and their plans."""
        return zip(np.ndindex(self.batch), self.plans, strict=True)

    @property
    def blocks_total(self) -> int:
        """All block products of all elements."""
        return sum(each.blocks_total for each in self.plans)

    @property
    def blocks_valid(self) -> int:
        """Kept block products of all elements."""
        return sum(each.blocks_valid for each in self.plans)

    @property
    def valid_ratio(self) -> float:
        """Share of block products that is kept; 1.0 where there are none at all."""
        return self.blocks_valid / self.blocks_total if self.blocks_total else 1.0

    @property
    def flops(self) -> int:
        """Floating-point operations of the kept products of all elements."""
        return sum(each.flops for each in self.plans)

    @property
    def dense_flops(self) -> int:
        """Floating-point operations of the whole products of all elements."""
        return sum(each.dense_flops for each in self.plans)

    @property
    def error_bound(self) -> float:
        """Bound on the Frobenius norm of the error of the whole batch."""
        bound = math.hypot(*(each.error_bound for each in self.plans))
        # hypot is correct to an ulp or two
        return math.nextafter(bound * (1 + 2.0**-50), math.inf) if bound else 0.0

    def refresh(self, a: Any, b: Any, *, backend: str = "auto") -> BatchPlan:
        """`Plan.refresh` of every element, for operands that broadcast to the same batch."""
        from spamm import _backends

        device_backend = _backends.for_devices(backend, a, b)
        if device_backend is not None:
            refreshed: BatchPlan = device_backend.refresh(self, a, b)
            return refreshed
        operands = checked_matrices(a, b, self.shape)
        if operands.batch != self.batch:
            raise ValueError(f"plan: it is for batch dimensions {self.batch}, got {operands.batch}")
        plans = tuple(
            each.refresh(*operands.pair(index), backend=backend) for index, each in self.items()
        )
        return BatchPlan(self.batch, plans, self.shape, self.block)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plans to one .npz file, as `Plan.save` does."""
        write_plans(path, self.plans, self.shape, self.block, self.batch)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BatchPlan:
        """Read what `save` wrote; ValueError where it is no plan of a batch."""
        plans, shape, block, batch = read_plans(path)
        if batch is None:
            raise ValueError(f"{os.fspath(path)}: it holds a plan of one product, not of a batch")
        return cls(batch, tuple(plans), shape, block)
