"""The sweep's matrices, and sparse matrices whose product is as wrong as SpAMM's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spamm.generators import algebraic_decay, exponential_decay, im2col_case

DECAYS = ("exponential", "algebraic", "im2col")
DTYPES = ("float16", "bfloat16", "float32", "tf32", "float64")
_PROBES = 8
_HALVINGS = 14


class Case(NamedTuple):
    """What is measured: `size` is n of n x n, or 0 for the convolution's own sizes."""

    decay: str
    size: int
    dtype: str
    valid_ratio: float

    @property
    def key(self) -> str:
        """Its name among the results."""
        size = self.size or "64x576x102400"
        return f"{self.decay} {size} {self.dtype} {self.valid_ratio:g}"


def matrices(decay: str, size: int, dtype: str) -> tuple[Any, Any]:
    """A and B: exponential decay with base 0.98, algebraic with exponent 2, both with drawn signs.

    The convolution is `spamm.generators.im2col_case`. TF32 is float32 to multiply otherwise.
    """
    kind: Any = "float32" if dtype == "tf32" else dtype
    if decay == "im2col":
        return im2col_case(dtype=kind)
    made = [
        exponential_decay(size, base=0.98, dtype=kind, seed=seed)
        if decay == "exponential"
        else algebraic_decay(size, exponent=2.0, dtype=kind, seed=seed)
        for seed in (0, 1)
    ]
    return made[0], made[1]


def as_wrong(a: Any, b: Any, rel_error: float) -> tuple[Any, Any]:
    """CSR matrices of A and B without the entries below one threshold.

    The threshold is the largest, within a few percent, at which the product's relative error is
    at most `rel_error`, by random signs (as many as give it to about a fifth).
    """
    import scipy.sparse

    a, b = (x.astype(np.promote_types(np.float32, _wide(x)), copy=False) for x in (a, b))
    signs = np.random.default_rng(0).integers(0, 2, (b.shape[1], _PROBES)) * 2.0 - 1.0
    signs = signs.astype(a.dtype)
    seen = a @ (b @ signs)
    sizes = np.sort(np.abs(np.concatenate([a.ravel()[::97], b.ravel()[::97]])))
    sizes = sizes[sizes > 0]
    low, high = np.log(float(sizes[0])), np.log(float(sizes[-1]))

    def dropped(threshold: float) -> tuple[Any, Any]:
        left, right = (
            scipy.sparse.csr_array(np.where(np.abs(x) < threshold, x.dtype.type(0), x))
            for x in (a, b)
        )
        return left, right

    found = dropped(0.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        pair = dropped(float(np.exp(middle)))
        error = np.linalg.norm(pair[0] @ (pair[1] @ signs) - seen) / np.linalg.norm(seen)
        if error <= rel_error:
            low, found = middle, pair
        else:
            high = middle
    return found


def multiplications(a: Any, b: Any) -> int:
    """How many a sparse product of two CSR matrices takes."""
    columns = np.bincount(a.indices, minlength=a.shape[1])
    return int(columns @ np.diff(b.indptr).astype(np.int64))


def _wide(x: Any) -> Any:
    return x.dtype if x.dtype in (np.float32, np.float64) else np.float32
