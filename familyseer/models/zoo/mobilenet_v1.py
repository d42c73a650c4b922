"""MobileNet, the first (Howard et al. 2017, arXiv 1704.04861, table 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# (output channels at width 1, stride) of each depthwise separable convolution
_BODY = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_half(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000 with half the channels."""
    mobilenet(g, image, width=0.5)


def mobilenet(g: GraphBuilder, image: str, *, width: float) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000; the paper's widths are 1, 0.75, 0.5 and 0.25."""
    channels = int(32 * width)
    x = g.relu(g.conv_bn(image, 3, channels, 3, stride=2))
    for base, stride in _BODY:
        target = int(base * width)
        x = g.relu(g.conv_bn(x, channels, channels, 3, stride=stride, groups=channels))
        x = g.relu(g.conv_bn(x, channels, target, 1))
        channels = target
    g.output("logits", g.classifier(g.global_average(x), channels, 1000), (1, 1000))
