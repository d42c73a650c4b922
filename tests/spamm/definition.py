"""SpAMM by its definition, in loops and exact arithmetic: what the library is held to in tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Sizes = tuple[int, int, int]


def blocks(size: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, size)) for start in range(0, size, block)]


def norms(array: Array, rows: int, cols: int) -> Array:
    """Norms of the blocks, from extended precision where the machine has it."""
    wide = array.astype(np.longdouble)
    grid = [[wide[r, c] for c in blocks(array.shape[1], cols)] for r in blocks(len(array), rows)]
    found = np.array([[np.sqrt(np.square(x).sum()) for x in row] for row in grid])
    found = found.reshape(len(grid), -(-array.shape[1] // cols))
    return np.where(np.isfinite(found), found, np.inf)


def kept(norms_a: Array, norms_b: Array, tau: float) -> Iterator[tuple[int, int, list[int]]]:
    """For each block (i, j) of C the k-blocks that are kept."""
    for i, j in itertools.product(range(norms_a.shape[0]), range(norms_b.shape[1])):
        ks = range(norms_a.shape[1])
        with np.errstate(all="ignore"):
            yield i, j, [k for k in ks if not norms_a[i, k] * norms_b[k, j] < tau]


def product(a: Array, b: Array, plan: Any) -> Array:
    """The sum of a plan's products, in float64."""
    (bm, bk, bn), (_, _, nb) = plan.block, plan.grid
    rows, depth, columns = blocks(a.shape[0], bm), blocks(a.shape[1], bk), blocks(b.shape[1], bn)
    a, b = a.astype(np.float64), b.astype(np.float64)
    c = np.zeros((a.shape[0], b.shape[1]))
    for i, j in itertools.product(range(len(rows)), range(nb)):
        for k in plan.ks[plan.offsets[i * nb + j] : plan.offsets[i * nb + j + 1]]:
            c[rows[i], columns[j]] += a[rows[i], depth[k]] @ b[depth[k], columns[j]]
    return c


def squared_error(a: Array, b: Array, plan: Any) -> Fraction:
    """||C - C~||_F squared, exactly, for finite matrices of a few elements."""
    (bm, bk, bn), (_, _, nb) = plan.block, plan.grid
    total = Fraction(0)
    for row, column in itertools.product(range(a.shape[0]), range(b.shape[1])):
        cell = (row // bm) * nb + column // bn
        computed = set(plan.ks[plan.offsets[cell] : plan.offsets[cell + 1]].tolist())
        skipped = [k for k in range(a.shape[1]) if k // bk not in computed]
        missing = sum(Fraction(float(a[row, k])) * Fraction(float(b[k, column])) for k in skipped)
        total += missing * missing
    return total
