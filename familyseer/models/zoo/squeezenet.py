"""SqueezeNet (Iandola et al. 2016, arXiv 1602.07360), the lighter revision 1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# (squeeze, expand of each branch); None is a 3 x 3 max pool with stride 2
_BODY: tuple[tuple[int, int] | None, ...] = (
    (16, 64),
    (16, 64),
    None,
    (32, 128),
    (32, 128),
    None,
    (48, 192),
    (48, 192),
    (64, 256),
    (64, 256),
)


def squeezenet(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000."""
    x = g.relu(g.conv(image, 3, 64, 3, stride=2))
    x = g.max_pool(x, 3, 2, ceil=True)
    channels = 64
    for stage in _BODY:
        if stage is None:
            x = g.max_pool(x, 3, 2, ceil=True)
        else:
            squeeze, expand = stage
            x = _fire(g, x, channels, squeeze, expand)
            channels = 2 * expand
    x = g.relu(g.conv(x, channels, 1000, 1))
    g.output("logits", g.global_average(x), (1, 1000))


def _fire(g: GraphBuilder, x: str, channels: int, squeeze: int, expand: int) -> str:
    squeezed = g.relu(g.conv(x, channels, squeeze, 1))
    pointwise = g.relu(g.conv(squeezed, squeeze, expand, 1))
    spatial = g.relu(g.conv(squeezed, squeeze, expand, 3, padding=1))
    return g.op("Concat", pointwise, spatial, axis=1)
