"""What workers do for SpAMM in models: run a library at given taus, time a layer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from familyseer.export._jobs import run_library, time_libraries

_FAR = 30.0


def run_probe(
    path: str, inputs: list[Any], taus: list[float], first: int | None = None
) -> list[Any]:
    """The results of a library that takes taus after its inputs, flattened.

    Parameters
    ----------
    first
        How many results are wanted; None for all of them.
    """
    vectors = [np.asarray([tau], dtype=np.float32) for tau in taus]
    return run_library(path, "cpu", [*inputs, *vectors])[:first]


def time_layer(paths: Mapping[str, str], x: Any, repeats: int, time_s: float) -> dict[str, float]:
    """Least seconds of a layer's libraries on `x`: ``spamm`` and, where it is given, ``dense``."""
    found = _least({"spamm": paths["spamm"]}, x, repeats, time_s)
    if "dense" in paths:
        began = time.perf_counter()
        run_library(paths["dense"], "cpu", [x])
        found["dense"] = time.perf_counter() - began
        # an untuned layer may take seconds, and then its time need not be known well
        if found["dense"] < _FAR * found["spamm"]:
            found = _least(paths, x, repeats, time_s)
    return found


def time_product(
    left: tuple[int, ...], right: tuple[int, ...], repeats: int, time_s: float
) -> float:
    """Least seconds of NumPy's product of float32 arrays of these shapes.

    To be called where no library of TVM's has run: that binds threads to processors, which BLAS's
    own then share.
    """
    a, b = np.ones(left, dtype=np.float32), np.ones(right, dtype=np.float32)
    began = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= repeats and time.perf_counter() - began < time_s):
        start = time.perf_counter()
        np.matmul(a, b)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _least(paths: Mapping[str, str], x: Any, repeats: int, time_s: float) -> dict[str, float]:
    times = time_libraries(paths, "cpu", [x], repeats, time_s)
    return {name: min(seconds) for name, seconds in times.items()}
