"""What the rest of the package knows about a model: its card, its inputs, the loaded module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class InputSpec:
    """One input of a model, in the order in which ``main`` takes its parameters.

    Attributes:
        name: the name in the model file (Relax may spell it differently: ``input.1`` becomes
            ``input_1``).
        shape: extents in elements; all static.
        dtype: NumPy's name of the element type (``float32``, ``int64``, ``bool``, ...).
        index_bound: for an integer input that ends up as an index (token ids), the exclusive upper
            bound of its values, the smallest axis it indexes; None where nothing is indexed.
        weight: for a weight that the module takes instead of holding it, (mean, standard deviation)
            of the values that are drawn for it; None for an input of the model itself.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    index_bound: int | None = None
    weight: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelCard:
    """A network of the zoo, described without building it.

    Attributes:
        name: what the command line takes as MODEL.
        description: one line.
        parameters: trainable scalars; BatchNorm's scale and bias are counted, its running mean and
            variance are not.
        inputs: what the network takes.
    """

    name: str
    description: str
    parameters: int
    inputs: tuple[InputSpec, ...]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to be tuned.

    Attributes:
        name: file stem or zoo name.
        source: the path as given, or the zoo name.
        digest: SHA-256 (hex) of the model's bytes and its bound input shapes; equal digests mean
            the same network with the same weights and shapes.
        mod: a ``tvm.IRModule`` whose only Relax function, ``main``, takes exactly ``inputs``;
            training-only operators are gone. Weights are constants in it, but for the huge
            networks of the zoo.
        inputs: in the order of ``main``'s parameters; a huge network's weights are the last ones.
        onnx: the model as read, input shapes bound, before any clean-up, for cross-checks against
            another runtime; None for a model that did not come from ONNX, or whose weights are not
            in it.
        precision: what `mod` was converted to; ``float32`` for a model as it came.
        exact: `mod` before that conversion; None where there was none.
    """

    name: str
    source: str
    digest: str
    mod: Any
    inputs: tuple[InputSpec, ...]
    onnx: onnx.ModelProto | None = field(default=None, repr=False)
    precision: str = "float32"
    exact: Any = field(default=None, repr=False)
