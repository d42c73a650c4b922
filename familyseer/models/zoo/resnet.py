"""Residual networks (He et al. 2016, arXiv 1512.03385)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# a fixed BatchNorm does not renormalise the sum of a block and its shortcut; a faint residual
# branch keeps deep stacks from growing
_BRANCH_GAIN = 0.25


def resnet18(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, basic blocks, 2-2-2-2."""
    x = g.relu(g.conv_bn(image, 3, 64, 7, stride=2))
    x = g.max_pool(x, 3, 2, padding=1)
    channels = 64
    for stage, blocks in enumerate((2, 2, 2, 2)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _basic_block(g, x, channels, width, stride)
            channels = width
    g.output("logits", g.classifier(g.global_average(x), channels, 1000), (1, 1000))


def _basic_block(g: GraphBuilder, x: str, channels: int, width: int, stride: int) -> str:
    branch = g.relu(g.conv_bn(x, channels, width, 3, stride=stride))
    branch = g.conv_bn(branch, width, width, 3, gain=_BRANCH_GAIN)
    shortcut = x
    if stride != 1 or channels != width:
        shortcut = g.conv_bn(x, channels, width, 1, stride=stride)
    return g.relu(g.add(branch, shortcut))
