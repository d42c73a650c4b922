"""What is to be tuned: a product, its type, how much of it is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Sizes = tuple[int, int, int]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SpammOptions:
    """The options of one tuning run.

    Attributes
    ----------
    out
        The folder that the run writes.
    valid_ratio
        Share of block products kept with the backend's default blocks, in (0, 1].
    block
        Block sizes (bm, bk, bn); None to choose them with the rest.
    precision
        ``"tf32"`` for float32 products on tensor cores, which round the operands.
    target
        A target as `familyseer.target.resolve_target` takes it; None for this machine's CPU.
    budget_s, trials
        Wall-clock seconds of the run and most candidates that are measured; one of them is set.
    seed
        Makes the choices of the run repeatable, as far as measured times allow.
    workers
        Processes that build candidates; None to let the run choose.
    resume
        Go on from what an earlier run left in `out`.
    """

    out: Path
    valid_ratio: float
    block: Sizes | None = None
    precision: str | None = None
    target: str | None = None
    budget_s: float | None = None
    trials: int | None = None
    seed: int = 0
    workers: int | None = None
    resume: bool = False


@dataclass(frozen=True)
class Problem:
    """A product to tune for.

    Attributes
    ----------
    shape
        (m, k, n) of C (m x n) = A (m x k) B (k x n).
    dtype
        Of A and B.
    valid_ratio
        Share of the block products kept, in (0, 1].
    block
        Block sizes (bm, bk, bn); None where they are to be chosen too.
    operands
        Digest of both matrices: the work depends on where their large blocks are.
    precision
        As in `SpammOptions`.
    """

    shape: Sizes
    dtype: str
    valid_ratio: float
    block: Sizes | None
    operands: str
    precision: str | None = None

    @classmethod
    def of(
        cls,
        a: Array,
        b: Array,
        valid_ratio: float,
        block: Sizes | None,
        precision: str | None = None,
    ) -> Problem:
        """The problem of multiplying two matrices of one type."""
        digest = hashlib.sha256()
        for matrix in (a, b):
            digest.update(np.ascontiguousarray(matrix).view(np.uint8).data)
        m, k, n = a.shape[0], a.shape[1], b.shape[1]
        return cls((m, k, n), a.dtype.name, valid_ratio, block, digest.hexdigest()[:32], precision)

    @property
    def name(self) -> str:
        """For people and for histories."""
        sizes = "x".join(map(str, self.shape))
        block = "" if self.block is None else "_b" + "x".join(map(str, self.block))
        return f"spamm_{sizes}_{self.precision or self.dtype}_{self.valid_ratio:g}{block}"

    def to_json(self) -> str:
        """Text that is equal for equal problems."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def digest(self) -> str:
        """What a resumed run must have in common with its earlier ones."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
