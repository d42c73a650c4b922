"""Networks built in code, as ONNX models with seeded random weights.

Importing this package and reading cards imports neither onnx nor numpy; building does.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from familyseer.errors import UserError
from familyseer.models.specs import ModelCard
from familyseer.models.zoo._registry import NETWORKS, Network

if TYPE_CHECKING:
    import os

    import onnx

__all__ = ["build", "close_matches", "describe", "names", "save"]


def names() -> list[str]:
    """Every network's name, in the order in which they are shown."""
    return list(NETWORKS)


def describe(name: str) -> ModelCard:
    """A network's card, without building the network.

    Raises:
        UserError: there is no such network; close names are suggested.
    """
    return _network(name).card


def build(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network with weights drawn from ``seed``: the same name and seed give the same bytes.

    Raises:
        UserError: there is no such network, or the seed is negative.
    """
    network = _network(name)
    if seed < 0:
        raise UserError(f"seed {seed}: expected a number of 0 or more")
    from familyseer.models.zoo._graph import GraphBuilder
    from familyseer.models.zoo._weights import SeededWeights

    builder = GraphBuilder(name, SeededWeights(seed))
    network.draw(builder, *[builder.input(spec) for spec in network.card.inputs])
    return builder.model()


def save(name: str, path: str | os.PathLike[str], seed: int = 0) -> None:
    """Write a network to an ``.onnx`` file.

    Raises:
        UserError: there is no such network, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise UserError(f"{target}: expected a file name that ends in .onnx")
    model = build(name, seed)
    try:
        target.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error


def close_matches(name: str) -> list[str]:
    """Names of networks that ``name`` may have been meant to be, best first."""
    return difflib.get_close_matches(name.lower(), NETWORKS, n=3, cutoff=0.5)


def _network(name: str) -> Network:
    if name not in NETWORKS:
        hint = close_matches(name) or names()
        raise UserError(f"{name}: no such model; did you mean {', '.join(hint)}?")
    return NETWORKS[name]
