"""The NumPy backend: what the other backends are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spamm._arrays import accumulator_type
from spamm._norms import block_norms as norms

if TYPE_CHECKING:
    from spamm._plan import Plan

__all__ = ["default_block", "multiply", "norms", "supports"]

Array = npt.NDArray[Any]

# Smaller blocks skip more, larger ones lose less to the loop over blocks of C
_BLOCK = 64


def default_block(m: int, k: int, n: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Block sizes where the caller names none."""
    return (_BLOCK,) * 3


def supports(block: tuple[int, int, int], dtype: np.dtype[Any]) -> str | None:
    """Every block size and type."""
    return None


def multiply(a: Array, b: Array, plan: Plan, out: Array) -> None:
    """Write the sum of the plan's products into `out`, one matrix product a block of C.

    Parameters
    ----------
    a, b, out
        Matrices (m, k), (k, n) and (m, n) in any layout; products are added up in float64 for
        float64, else in float32.
    """
    (bm, bk, bn), (mb, _, nb) = plan.block, plan.grid
    total = accumulator_type(a.dtype)
    a, b = a.astype(total, copy=False), b.astype(total, copy=False)
    within = np.arange(bk)
    with np.errstate(all="ignore"):
        for i in range(mb):
            rows = slice(i * bm, (i + 1) * bm)
            strip = np.ascontiguousarray(a[rows])
            for j in range(nb):
                columns = slice(j * bn, (j + 1) * bn)
                ks = plan.ks[plan.offsets[i * nb + j] : plan.offsets[i * nb + j + 1]]
                depth = (ks[:, None].astype(np.int64) * bk + within).ravel()
                # only the last block of k can reach over the edge
                depth = depth[: np.searchsorted(depth, a.shape[1])]
                out[rows, columns] = strip.take(depth, axis=1) @ b[depth, columns]
