"""Residual networks (He et al. 2016, arXiv 1512.03385; v2: arXiv 1603.05027)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# draws one residual block on a value: its channels, the block's width and its stride
Block: TypeAlias = "Callable[[GraphBuilder, str, int, int, int], str]"

# a fixed BatchNorm does not renormalise the sum of a block and its shortcut; a faint residual
# branch keeps deep stacks from growing
_BRANCH_GAIN = 0.25


def resnet18(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, basic blocks, 2-2-2-2."""
    _resnet(g, image, (2, 2, 2, 2), _basic_block, expansion=1)


def resnet50_v1(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, bottleneck blocks, 3-4-6-3."""
    _resnet(g, image, (3, 4, 6, 3), _bottleneck, expansion=4)


def resnet152_v2(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, pre-activation bottlenecks, 3-8-36-3.

    As MXNet Gluon's network of this name: the pixels are normalised first, and the 3 x 3
    convolution strides.
    """
    x = g.conv(g.batch_norm(image, 3), 3, 64, 7, stride=2, padding=3, bias=False)
    x = g.max_pool(g.relu(g.batch_norm(x, 64)), 3, 2, padding=1)
    x, channels = _stages(g, x, (3, 8, 36, 3), _preactivated, expansion=4)
    x = g.relu(g.batch_norm(x, channels))
    g.output("logits", g.classifier(g.global_average(x), channels, 1000), (1, 1000))


def _resnet(
    g: GraphBuilder, image: str, blocks: Sequence[int], draw: Block, *, expansion: int
) -> None:
    x = g.relu(g.conv_bn(image, 3, 64, 7, stride=2))
    x = g.max_pool(x, 3, 2, padding=1)
    x, channels = _stages(g, x, blocks, draw, expansion=expansion)
    g.output("logits", g.classifier(g.global_average(x), channels, 1000), (1, 1000))


def _stages(
    g: GraphBuilder, x: str, blocks: Sequence[int], draw: Block, *, expansion: int
) -> tuple[str, int]:
    """The body's result and its channels; every stage but the first halves the extent."""
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            x = draw(g, x, channels, width, stride)
            channels = width * expansion
    return x, channels


def _basic_block(g: GraphBuilder, x: str, channels: int, width: int, stride: int) -> str:
    branch = g.relu(g.conv_bn(x, channels, width, 3, stride=stride))
    branch = g.conv_bn(branch, width, width, 3, gain=_BRANCH_GAIN)
    return g.relu(g.add(branch, _shortcut(g, x, channels, width, stride)))


def _bottleneck(g: GraphBuilder, x: str, channels: int, width: int, stride: int) -> str:
    """The paper's own block, which strides in its first convolution; many later copies of the
    network stride in the 3 x 3 (version 1.5)."""
    branch = g.relu(g.conv_bn(x, channels, width, 1, stride=stride))
    branch = g.relu(g.conv_bn(branch, width, width, 3))
    branch = g.conv_bn(branch, width, 4 * width, 1, gain=_BRANCH_GAIN)
    return g.relu(g.add(branch, _shortcut(g, x, channels, 4 * width, stride)))


def _preactivated(g: GraphBuilder, x: str, channels: int, width: int, stride: int) -> str:
    """BatchNorm and ReLU come before each convolution; nothing follows the sum."""
    active = g.relu(g.batch_norm(x, channels))
    branch = g.relu(g.conv_bn(active, channels, width, 1))
    branch = g.relu(g.conv_bn(branch, width, width, 3, stride=stride))
    target = 4 * width
    branch = g.conv(branch, width, target, 1, bias=False, gain=_BRANCH_GAIN)
    if stride == 1 and channels == target:
        return g.add(branch, x)
    return g.add(branch, g.conv(active, channels, target, 1, stride=stride, bias=False))


def _shortcut(g: GraphBuilder, x: str, channels: int, target: int, stride: int) -> str:
    if stride == 1 and channels == target:
        return x
    return g.conv_bn(x, channels, target, 1, stride=stride)
