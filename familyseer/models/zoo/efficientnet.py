"""EfficientNet (Tan and Le 2019, arXiv 1905.11946, table 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# (expansion, kernel, output channels, repeats, stride of the first)
_BODY = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_STEM = 32
_HEAD = 1280
# SiLU passes on less of the second moment than the ReLU that convolutions are scaled for
_SILU_GAIN = 1.2
# a projection that is added to its block's input is faint, or stacks of blocks would grow
_RESIDUAL_GAIN = 0.25


def efficientnet_b0(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000."""
    x = _conv_silu(g, image, 3, _STEM, 3, stride=2)
    channels = _STEM
    for expansion, kernel, target, repeats, first_stride in _BODY:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _block(g, x, channels, target, expansion, kernel, stride)
            channels = target
    x = _conv_silu(g, x, channels, _HEAD, 1)
    g.output("logits", g.classifier(g.global_average(x), _HEAD, 1000), (1, 1000))


def _block(
    g: GraphBuilder, x: str, channels: int, target: int, expansion: int, kernel: int, stride: int
) -> str:
    """Inverted residual with squeeze-and-excitation (MBConv)."""
    inner = channels * expansion
    y = _conv_silu(g, x, channels, inner, 1) if expansion != 1 else x
    y = _conv_silu(g, y, inner, inner, kernel, stride=stride, groups=inner)
    y = g.op("Mul", y, _excitation(g, y, inner, channels // 4))
    if stride == 1 and channels == target:
        return g.add(x, g.conv_bn(y, inner, target, 1, gain=_RESIDUAL_GAIN))
    return g.conv_bn(y, inner, target, 1)


def _excitation(g: GraphBuilder, x: str, channels: int, squeezed: int) -> str:
    """N x channels x 1 x 1 gates (Hu et al. 2018, arXiv 1709.01507); the squeeze is a quarter of
    the block's input channels, not of its inner ones."""
    y = g.silu(g.conv(g.op("GlobalAveragePool", x), channels, squeezed, 1))
    return g.op("Sigmoid", g.conv(y, squeezed, channels, 1))


def _conv_silu(
    g: GraphBuilder,
    x: str,
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
) -> str:
    y = g.conv_bn(
        x, channels_in, channels_out, kernel, stride=stride, groups=groups, gain=_SILU_GAIN
    )
    return g.silu(y)
