"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

_EPSILON = 1e-6


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a vision transformer; ``image`` and ``patch`` are extents in pixels."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    image: int = 224
    patch: int = 16


def vit_tiny(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, the size named ViT-Ti/16 (Steiner et al. 2022, arXiv
    2106.10270; DeiT-Ti of Touvron et al. 2021, arXiv 2012.12877)."""
    vit(g, image, VitConfig(layers=12, hidden=192, heads=3, intermediate=768))


def vit_huge(g: GraphBuilder, image: str) -> None:
    """1 x 3 x 224 x 224 to 1 x 1000, the size named ViT-H/14 in the paper's table 1."""
    vit(g, image, VitConfig(layers=32, hidden=1280, heads=16, intermediate=5120, patch=14))


def vit(g: GraphBuilder, image: str, config: VitConfig) -> None:
    """1 x 3 x image x image to 1 x 1000, read off the class token of pre-norm encoder layers."""
    hidden = config.hidden
    x = _tokens(g, image, config)
    for _ in range(config.layers):
        normed = g.layer_norm(x, hidden, epsilon=_EPSILON)
        x = g.add(x, g.attention(normed, hidden, config.heads))
        normed = g.layer_norm(x, hidden, epsilon=_EPSILON)
        inner = g.gelu(g.linear(normed, hidden, config.intermediate))
        x = g.add(x, g.linear(inner, config.intermediate, hidden))
    x = g.layer_norm(x, hidden, epsilon=_EPSILON)
    first = g.op("Flatten", g.op("Slice", x, *map(g.constant, ([0], [1], [1]))), axis=1)
    g.output("logits", g.classifier(first, hidden, 1000), (1, 1000))


def _tokens(g: GraphBuilder, image: str, config: VitConfig) -> str:
    """The class token and the patches' embeddings, positions added."""
    hidden, patches = config.hidden, (config.image // config.patch) ** 2
    grid = g.conv(image, 3, hidden, config.patch, stride=config.patch)
    flat = g.op("Reshape", grid, g.constant([0, hidden, patches]))
    class_token = g.learned("class_token", (1, 1, hidden))
    tokens = g.op("Concat", class_token, g.op("Transpose", flat, perm=[0, 2, 1]), axis=1)
    return g.add(tokens, g.learned("positions", (1, patches + 1, hidden)))
