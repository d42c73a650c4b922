"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# (expansion, output channels at width 1, repeats, stride of the first)
_BODY = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_HEAD = 1280


def mobilenetv2_half(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000 with half the channels."""
    mobilenetv2(g, image, width=0.5)


def mobilenetv2(g: GraphBuilder, image: str, *, width: float) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000; below width 1 the head keeps its 1,280 channels."""
    channels = _scaled(32, width)
    x = g.relu6(g.conv_bn(image, 3, channels, 3, stride=2))
    for expansion, base, repeats, first_stride in _BODY:
        target = _scaled(base, width)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _inverted_residual(g, x, channels, target, expansion, stride)
            channels = target
    head = max(_HEAD, _scaled(_HEAD, width))
    x = g.relu6(g.conv_bn(x, channels, head, 1))
    g.output("logits", g.classifier(g.global_average(x), head, 1000), (1, 1000))


def _inverted_residual(
    g: GraphBuilder, x: str, channels: int, target: int, expansion: int, stride: int
) -> str:
    inner = channels * expansion
    y = g.relu6(g.conv_bn(x, channels, inner, 1)) if expansion != 1 else x
    y = g.relu6(g.conv_bn(y, inner, inner, 3, stride=stride, groups=inner))
    # no ReLU follows the projection, so its weights need no room for one
    y = g.conv_bn(y, inner, target, 1, gain=0.7)
    return g.add(x, y) if stride == 1 and channels == target else y


def _scaled(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times width, rounded to a multiple of 8 without losing more than a tenth."""
    exact = channels * width
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * exact else rounded
