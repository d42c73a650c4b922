"""What SpAMM would compute of a problem's matrices, for any block size.

Block sizes are compared at one error and not at one valid ratio: at the same ratio coarse blocks
are quicker only because they skip what matters more. So the default blocks' plan, whose valid ratio
is the problem's, gives the bound on the error (arXiv 2005.10680), and any other block gets the
largest tau that keeps to this bound.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from familyseer.spamm_tasks._problem import Problem, Sizes


@dataclass(frozen=True)
class Statistics:
    """A plan in figures.

    Attributes
    ----------
    tau, valid_ratio, flops
        As `spamm.Plan` has them.
    blocks_valid
        Block products that are kept.
    mean, spread, longest
        Kept products of a block of C: their mean, standard deviation and maximum.
    row_spread
        Standard deviation of the kept products of a row of C's blocks, over their mean.
    """

    tau: float
    valid_ratio: float
    flops: int
    blocks_valid: int
    mean: float
    spread: float
    longest: int
    row_spread: float

    @classmethod
    def of(cls, plan: Any) -> Statistics:
        """Those of a `spamm.Plan`."""
        counts = np.diff(plan.offsets)
        rows = plan.work_per_row()
        if not counts.size:
            counts = rows = np.zeros(1)
        return cls(
            plan.tau,
            plan.valid_ratio,
            plan.flops,
            plan.blocks_valid,
            float(counts.mean()),
            float(counts.std()),
            int(counts.max()),
            float(rows.std() / max(float(rows.mean()), 1e-9)),
        )

    def numbers(self) -> list[float]:
        """Features for a cost model; logarithms of what spans orders of magnitude."""
        sizes = (self.valid_ratio + 1e-9, self.flops + 1, self.blocks_valid + 1, self.mean + 1e-3)
        shape = self.spread / max(self.mean, 1e-9), self.longest / max(self.mean, 1e-9)
        return [*np.log2(sizes).tolist(), *shape, self.row_spread]


class Survey:
    """Plans of one problem, made when first asked for.

    Parameters
    ----------
    problem, a, b
        The problem and its matrices.
    norms
        As the backend's ``norms``.
    default_block
        The blocks that the problem's valid ratio is told of.

    Raises
    ------
    ValueError
        That valid ratio cannot be met.
    """

    def __init__(self, problem: Problem, a: Any, b: Any, norms: Any, default_block: Sizes) -> None:
        from spamm import tau_for_valid_ratio

        self._problem, self._a, self._b, self._norms = problem, a, b, norms
        self._block_norms = functools.lru_cache(maxsize=64)(self._norms_of)
        self._found: dict[Sizes, Statistics] = {}
        bm, bk, bn = default_block
        norms_a, norms_b = self._block_norms("a", bm, bk), self._block_norms("b", bk, bn)
        tau = tau_for_valid_ratio(norms_a, norms_b, problem.valid_ratio)
        plan = self._plan(default_block, tau)
        self.error_bound = float(plan.error_bound)
        self._found[default_block] = Statistics.of(plan)

    def known(self, block: Sizes) -> bool:
        """Whether asking for it costs nothing."""
        return block in self._found

    def statistics(self, block: Sizes) -> Statistics:
        """Those of the plan with these blocks."""
        if block not in self._found:
            from spamm import tau_for_bound

            bm, bk, bn = block
            norms = self._block_norms("a", bm, bk), self._block_norms("b", bk, bn)
            tau = tau_for_bound(*norms, self.error_bound) if self.error_bound > 0 else 0.0
            self._found[block] = Statistics.of(self._plan(block, tau))
        return self._found[block]

    def _plan(self, block: Sizes, tau: float) -> Any:
        from spamm import build_plan

        bm, bk, bn = block
        norms = self._block_norms("a", bm, bk), self._block_norms("b", bk, bn)
        return build_plan(*norms, self._problem.shape, block, tau)

    def _norms_of(self, which: str, rows: int, columns: int) -> Any:
        return self._norms(self._a if which == "a" else self._b, rows, columns)
