"""Where the weights of a drawn network come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class Normal:
    """Gaussian values."""

    std: float
    mean: float = 0.0


@dataclass(frozen=True)
class Uniform:
    """Values spread evenly over [low, high)."""

    low: float
    high: float


Distribution = Normal | Uniform


class WeightSource(Protocol):
    """Turns a weight's name, shape and distribution into an initializer.

    A source that allocates nothing (for networks too large to hold) can answer with a tensor that
    only carries its dims.
    """

    def tensor(
        self, name: str, shape: tuple[int, ...], distribution: Distribution
    ) -> onnx.TensorProto: ...


class SeededWeights:
    """float32 weights drawn from one generator: the same seed and the same drawing give the same
    bytes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def tensor(
        self, name: str, shape: tuple[int, ...], distribution: Distribution
    ) -> onnx.TensorProto:
        if isinstance(distribution, Normal):
            values = self._rng.standard_normal(shape, dtype=np.float32)
            values *= np.float32(distribution.std)
            values += np.float32(distribution.mean)
        else:
            values = self._rng.random(shape, dtype=np.float32)
            values *= np.float32(distribution.high - distribution.low)
            values += np.float32(distribution.low)
        return numpy_helper.from_array(values, name)
