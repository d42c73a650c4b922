"""A multi-layer perceptron: the smallest network that has something to tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

_HIDDEN = ((784, 512), (512, 256))
_HEAD = (256, 10)


def mlp(g: GraphBuilder, x: str) -> None:
    """1 x 784 to 1 x 10 through 512 and 256 ReLU units."""
    for features_in, features_out in _HIDDEN:
        x = g.relu(g.classifier(x, features_in, features_out))
    g.output("logits", g.classifier(x, *_HEAD), (1, _HEAD[1]))
