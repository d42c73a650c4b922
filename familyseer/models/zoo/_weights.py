"""Where the weights of a drawn network come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper


@dataclass(frozen=True)
class Normal:
    """Gaussian values."""

    std: float
    mean: float = 0.0

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        return self.mean, self.std


@dataclass(frozen=True)
class Uniform:
    """Values spread evenly over [low, high)."""

    low: float
    high: float

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        return (self.low + self.high) / 2, (self.high - self.low) / 12**0.5


Distribution = Normal | Uniform


class WeightSource(Protocol):
    """Turns a weight's name, shape and distribution into a float32 initializer."""

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
        return numpy_helper.from_array(self.draw(shape, distribution), name)

    def draw(self, shape: tuple[int, ...], distribution: Distribution) -> np.ndarray[Any, Any]:
        """The next weight's values."""
        if isinstance(distribution, Normal):
            values = self._rng.standard_normal(shape, dtype=np.float32)
            values *= np.float32(distribution.std)
            values += np.float32(distribution.mean)
        else:
            values = self._rng.random(shape, dtype=np.float32)
            values *= np.float32(distribution.high - distribution.low)
            values += np.float32(distribution.low)
        return values


class FiledWeights:
    """The values of `SeededWeights`, written to a file beside the model as they are drawn: one
    weight at a time is in memory."""

    def __init__(self, seed: int, file: BinaryIO, location: str) -> None:
        self._source = SeededWeights(seed)
        self._file = file
        self._location = location

    def tensor(
        self, name: str, shape: tuple[int, ...], distribution: Distribution
    ) -> onnx.TensorProto:
        values = self._source.draw(shape, distribution)
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=onnx.TensorProto.FLOAT)
        # ONNX asks for raw data to be there before it is marked as being elsewhere
        tensor.raw_data = b""
        offset = self._file.tell()
        external_data_helper.set_external_data(tensor, self._location, offset, values.nbytes)
        tensor.ClearField("raw_data")
        # ONNX stores little-endian numbers
        self._file.write(values.astype("<f4", copy=False).tobytes())
        return tensor


class WeightShapes:
    """Weights without values, for networks too large to hold.

    Attributes:
        found: (mean, standard deviation) of every weight's values, by name.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], distribution: Distribution
    ) -> onnx.TensorProto:
        self.found[name] = distribution.moments
        return onnx.TensorProto(name=name, dims=shape, data_type=onnx.TensorProto.FLOAT)
