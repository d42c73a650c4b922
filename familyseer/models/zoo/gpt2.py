"""Decoders of the GPT-2 kind (Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

_EPSILON = 1e-5
# added to the scores of later positions; far below any score, far above float32's least
_MASKED = -10000.0


@dataclass(frozen=True)
class Gpt2Config:
    """Sizes of a decoder; ``sequence`` is the length it is drawn for, in tokens, and ``positions``
    the longest that it has embeddings for (None: no longer than ``sequence``)."""

    layers: int
    hidden: int
    heads: int
    sequence: int
    vocabulary: int
    positions: int | None = None


def gpt2_small(g: GraphBuilder, ids: str) -> None:
    """A small decoder with a small vocabulary; no published network has these sizes."""
    gpt2(g, ids, Gpt2Config(layers=4, hidden=256, heads=4, sequence=64, vocabulary=4096))


def gpt2_published(g: GraphBuilder, ids: str) -> None:
    """The smallest of the published four, a prompt of 128 tokens."""
    config = Gpt2Config(
        layers=12, hidden=768, heads=12, sequence=128, vocabulary=50257, positions=1024
    )
    gpt2(g, ids, config)


def gpt2(g: GraphBuilder, ids: str, config: Gpt2Config) -> None:
    """int64 1 x sequence ids to logits (1 x sequence x vocabulary); the head is the table of
    token embeddings, turned."""
    hidden = config.hidden
    # as a head, the table must not enlarge what it is multiplied with
    std = 1 / math.sqrt(hidden)
    table = g.learned("token_embedding", (config.vocabulary, hidden), std=std)
    positions = _positions(g, config, std)
    x = g.add(g.op("Gather", table, ids, axis=0), positions)
    bias = _causal_bias(g, config.sequence)
    for _ in range(config.layers):
        normed = g.layer_norm(x, hidden, epsilon=_EPSILON)
        x = g.add(x, g.attention(normed, hidden, config.heads, bias=bias, joint=True))
        normed = g.layer_norm(x, hidden, epsilon=_EPSILON)
        inner = g.gelu_tanh(g.linear(normed, hidden, 4 * hidden))
        x = g.add(x, g.linear(inner, 4 * hidden, hidden))
    x = g.layer_norm(x, hidden, epsilon=_EPSILON)
    logits = g.op("MatMul", x, g.op("Transpose", table, perm=[1, 0]))
    g.output("logits", logits, (1, config.sequence, config.vocabulary))


def _positions(g: GraphBuilder, config: Gpt2Config, std: float) -> str:
    """sequence x hidden, the first rows of the table."""
    rows = config.positions or config.sequence
    table = g.learned("position_embedding", (rows, config.hidden), std=std)
    if rows == config.sequence:
        return table
    return g.op("Slice", table, *map(g.constant, ([0], [config.sequence], [0])))


def _causal_bias(g: GraphBuilder, sequence: int) -> str:
    """sequence x sequence: 0 where the column is not after the row, else very negative."""
    column = g.constant(range(sequence))
    row = g.op("Unsqueeze", column, g.constant([1]))
    seen = g.op("LessOrEqual", column, row)
    return g.op("Where", seen, g.constant(0.0), g.constant(_MASKED))
