"""Networks built in code, as ONNX models with seeded random weights.

Importing this package and reading cards imports neither onnx nor numpy; building does.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from familyseer.errors import UserError
from familyseer.models.specs import InputSpec, ModelCard
from familyseer.models.zoo._registry import ALIASES, NETWORKS, Network

if TYPE_CHECKING:
    import os

    import onnx

    from familyseer.models.zoo._weights import WeightSource

__all__ = ["build", "close_matches", "describe", "has", "is_huge", "names", "outline", "save"]


def names() -> list[str]:
    """Every network's name, in the order in which they are shown."""
    return list(NETWORKS)


def has(name: str) -> bool:
    """Whether there is a network of that name, or with it as another name."""
    return name in NETWORKS or name in ALIASES


def is_huge(name: str) -> bool:
    """Whether a network is imported by its `outline`, with weights that are inputs of the module.

    Raises:
        UserError: there is no such network; close names are suggested.
    """
    return _network(name).is_huge


def describe(name: str) -> ModelCard:
    """A network's card, without building the network.

    Raises:
        UserError: there is no such network; close names are suggested.
    """
    return _network(name).card


def build(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network with weights drawn from ``seed``: the same name and seed give the same bytes.

    All its weights are in memory, 4 bytes a parameter; those of a huge one exceed the 2 GB that
    a serialised ONNX model may have.

    Raises:
        UserError: there is no such network, or the seed is negative.
    """
    from familyseer.models.zoo._weights import SeededWeights

    return _draw(_network(name), SeededWeights(_checked(seed)))


def outline(name: str) -> tuple[onnx.ModelProto, list[InputSpec]]:
    """A network whose weights are inputs of its graph, behind those that it has, and these weights.

    Nothing of the weights' size is allocated, and no seed is needed.

    Raises:
        UserError: there is no such network.
    """
    from familyseer.models.zoo._outline import without_weights
    from familyseer.models.zoo._weights import WeightShapes

    shapes = WeightShapes()
    model = _draw(_network(name), shapes)
    return model, without_weights(model, shapes.found)


def save(name: str, path: str | os.PathLike[str], seed: int = 0) -> None:
    """Write a network to an ``.onnx`` file.

    The weights of a huge one go to a file beside it, ``FILE.onnx.data``; of them, no more than one
    is in memory at a time.

    Raises:
        UserError: there is no such network, the seed is negative, or the file cannot be written.
    """
    from familyseer.models.zoo._weights import FiledWeights

    target = Path(path)
    if target.suffix != ".onnx":
        raise UserError(f"{target}: expected a file name that ends in .onnx")
    network, seed = _network(name), _checked(seed)
    written = target
    try:
        if network.is_huge:
            written = target.with_name(f"{target.name}.data")
            with written.open("wb") as file:
                model = _draw(network, FiledWeights(seed, file, written.name))
            written = target
        else:
            model = build(name, seed)
        target.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise UserError(
            f"{written}: cannot be written ({error.strerror}); expected a file that can be"
        ) from error


def close_matches(name: str) -> list[str]:
    """Names of networks that ``name`` may have been meant to be, best first."""
    return difflib.get_close_matches(name.lower(), NETWORKS, n=3, cutoff=0.5)


def _draw(network: Network, weights: WeightSource) -> onnx.ModelProto:
    from familyseer.models.zoo._graph import GraphBuilder

    builder = GraphBuilder(network.card.name, weights)
    network.draw(builder, *[builder.input(spec) for spec in network.card.inputs])
    return builder.model()


def _checked(seed: int) -> int:
    if seed < 0:
        raise UserError(f"seed {seed}: expected a number of 0 or more")
    return seed


def _network(name: str) -> Network:
    proper = ALIASES.get(name, name)
    if proper not in NETWORKS:
        close = close_matches(name)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UserError(
            f"{name}: no such model; expected a name that familyseer models lists{hint}"
        )
    return NETWORKS[proper]
