"""Small SpAMM products on the GPU, for tools that make kernels slow: run by ``gpu_host.py``.

Sizes that no tile divides, every type and way of multiplying; each is checked, so that a kernel
that a tool keeps from running is noticed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import spamm
from spamm.generators import exponential_decay

_SHAPES = ((96, 96, 96), (130, 75, 201))
_TOLERANCE = {"float16": 4e-3, "float32": 1e-5, "tf32": 4e-3}


def products(backend: str) -> dict[str, float]:
    """Relative errors against NumPy's own, by type and shape."""
    found = {}
    for m, k, n in _SHAPES:
        for kind in _TOLERANCE:
            dtype: Any = "float32" if kind == "tf32" else kind
            side = max(m, k, n)
            a = exponential_decay(side, base=0.9, dtype=dtype, seed=0)[:m, :k].copy()
            b = exponential_decay(side, base=0.9, dtype=dtype, seed=1)[:k, :n].copy()
            how: dict[str, Any] = {"precision": "tf32"} if kind == "tf32" else {}
            plan = spamm.plan(a, b, valid_ratio=0.5, block=32, backend="numpy")
            expected = spamm.multiply(plan, a, b, backend="numpy").astype("float64")
            got = spamm.multiply(plan, a, b, backend=backend, **how).astype("float64")
            spamm.plan(a, b, valid_ratio=0.5, block=32, backend=backend)
            error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
            found[f"{kind} {m}x{k}x{n}"] = float(error)
    return found


if __name__ == "__main__":
    errors = products(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    print(errors)
    bad = {name: e for name, e in errors.items() if not e <= _TOLERANCE[name.split()[0]]}
    sys.exit(f"wrong: {bad}" if bad else 0)
