"""ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164, table 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

_REPEATS = (4, 8, 4)
_STEM = 24
_HEAD = 1024


def shufflenetv2_half(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, the lightest published width (0.5x)."""
    shufflenetv2(g, image, widths=(48, 96, 192))


def shufflenetv2(g: GraphBuilder, image: str, *, widths: tuple[int, int, int]) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000; ``widths`` are the channels of stages 2, 3 and 4."""
    x = g.relu(g.conv_bn(image, 3, _STEM, 3, stride=2))
    x = g.max_pool(x, 3, 2, padding=1)
    channels, extent = _STEM, 56
    for width, repeats in zip(widths, _REPEATS, strict=True):
        x = _downsampling_unit(g, x, channels, width)
        channels, extent = width, extent // 2
        x = g.channel_shuffle(x, channels, 2, extent)
        for _ in range(repeats - 1):
            x = _basic_unit(g, x, channels)
            x = g.channel_shuffle(x, channels, 2, extent)
    x = g.relu(g.conv_bn(x, channels, _HEAD, 1))
    g.output("logits", g.classifier(g.global_average(x), _HEAD, 1000), (1, 1000))


def _basic_unit(g: GraphBuilder, x: str, channels: int) -> str:
    """Half of the channels pass by untouched (figure 3c)."""
    half = channels // 2
    kept, changed = g.split(x, [half, half], axis=1)
    return g.op("Concat", kept, _branch(g, changed, half, half, stride=1), axis=1)


def _downsampling_unit(g: GraphBuilder, x: str, channels: int, width: int) -> str:
    """Both branches see every channel and halve the extent (figure 3d)."""
    half = width // 2
    shortcut = _depthwise(g, x, channels, stride=2)
    shortcut = g.relu(g.conv_bn(shortcut, channels, half, 1))
    return g.op("Concat", shortcut, _branch(g, x, channels, half, stride=2), axis=1)


def _branch(g: GraphBuilder, x: str, channels: int, width: int, *, stride: int) -> str:
    y = g.relu(g.conv_bn(x, channels, width, 1))
    return g.relu(g.conv_bn(_depthwise(g, y, width, stride=stride), width, width, 1))


def _depthwise(g: GraphBuilder, x: str, channels: int, *, stride: int) -> str:
    # no ReLU follows, so the weights need no room for one
    return g.conv_bn(x, channels, channels, 3, stride=stride, groups=channels, gain=0.7)
