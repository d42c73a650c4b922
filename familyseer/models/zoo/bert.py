"""BERT encoders (Devlin et al. 2019, arXiv 1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# added to the scores of padded positions; far below any score, far above float32's least
_MASKED = -10000.0


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT encoder; ``sequence`` is the length it is drawn for, in tokens."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    sequence: int = 128
    vocabulary: int = 30522
    positions: int = 512
    token_types: int = 2


def bert_small(g: GraphBuilder, ids: str, mask: str, token_types: str) -> None:
    """The 4-layer, 256-wide encoder published as BERT-Mini (Turc et al. 2019, arXiv 1908.08962)."""
    bert(g, ids, mask, token_types, BertConfig(layers=4, hidden=256, heads=4, intermediate=1024))


def bert(g: GraphBuilder, ids: str, mask: str, token_types: str, config: BertConfig) -> None:
    """int64 1 x sequence ids, mask (1 keeps a position) and token types, to the last hidden state
    (1 x sequence x hidden) and the pooled first token (1 x hidden)."""
    hidden = config.hidden
    x = _embeddings(g, ids, token_types, config)
    bias = _score_bias(g, mask)
    for _ in range(config.layers):
        attended = g.attention(x, hidden, config.heads, bias=bias)
        x = g.layer_norm(g.add(x, attended), hidden)
        inner = g.gelu(g.linear(x, hidden, config.intermediate))
        x = g.layer_norm(g.add(x, g.linear(inner, config.intermediate, hidden)), hidden)
    first = g.op("Flatten", g.op("Slice", x, *map(g.constant, ([0], [1], [1]))), axis=1)
    g.output("pooled", g.op("Tanh", g.linear(first, hidden, hidden)), (1, hidden))
    g.output("last_hidden_state", x, (1, config.sequence, hidden))


def _embeddings(g: GraphBuilder, ids: str, token_types: str, config: BertConfig) -> str:
    words = g.embedding(ids, config.vocabulary, config.hidden)
    kinds = g.embedding(token_types, config.token_types, config.hidden)
    positions = g.embedding(g.constant(range(config.sequence)), config.positions, config.hidden)
    return g.layer_norm(g.add(g.add(words, kinds), positions), config.hidden)


def _score_bias(g: GraphBuilder, mask: str) -> str:
    """batch x sequence of 0 and 1 to batch x 1 x 1 x sequence of 0 and very negative."""
    float32 = 1
    spread = g.op("Unsqueeze", g.op("Cast", mask, to=float32), g.constant([1, 2]))
    return g.op("Mul", g.op("Sub", g.constant(1.0), spread), g.constant(_MASKED))
