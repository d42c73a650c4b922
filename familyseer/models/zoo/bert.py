"""Encoders of the BERT kind (Devlin et al. 2019, arXiv 1810.04805; RoBERTa: Liu et al. 2019,
arXiv 1907.11692)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from familyseer.models.zoo._graph import GraphBuilder

# added to the scores of padded positions; far below any score, far above float32's least
_MASKED = -10000.0


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder; ``sequence`` is the length it is drawn for, in tokens.

    The first token has position ``first_position``: RoBERTa's table keeps rows for padding.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    sequence: int = 128
    vocabulary: int = 30522
    positions: int = 512
    token_types: int = 2
    epsilon: float = 1e-12
    first_position: int = 0


def bert_small(g: GraphBuilder, ids: str, mask: str, token_types: str) -> None:
    """The 4-layer, 256-wide encoder published as BERT-Mini (Turc et al. 2019, arXiv 1908.08962)."""
    bert(g, ids, mask, token_types, BertConfig(layers=4, hidden=256, heads=4, intermediate=1024))


def bert_large(g: GraphBuilder, ids: str, mask: str, token_types: str) -> None:
    """The 24-layer, 1,024-wide encoder, a padded sequence of 128 tokens."""
    config = BertConfig(layers=24, hidden=1024, heads=16, intermediate=4096)
    bert(g, ids, mask, token_types, config)


def roberta_large(g: GraphBuilder, ids: str, mask: str) -> None:
    """BERT-large's layers with a larger vocabulary and a single kind of token."""
    config = BertConfig(
        layers=24,
        hidden=1024,
        heads=16,
        intermediate=4096,
        vocabulary=50265,
        positions=514,
        token_types=1,
        epsilon=1e-5,
        first_position=2,
    )
    bert(g, ids, mask, None, config)


def bert(g: GraphBuilder, ids: str, mask: str, token_types: str | None, config: BertConfig) -> None:
    """int64 1 x sequence ids, mask (1 keeps a position) and token types, to the last hidden state
    (1 x sequence x hidden) and the pooled first token (1 x hidden).

    Without ``token_types`` every token is of kind 0.
    """
    hidden, epsilon = config.hidden, config.epsilon
    x = _embeddings(g, ids, token_types, config)
    bias = _score_bias(g, mask)
    for _ in range(config.layers):
        attended = g.attention(x, hidden, config.heads, bias=bias)
        x = g.layer_norm(g.add(x, attended), hidden, epsilon=epsilon)
        inner = g.gelu(g.linear(x, hidden, config.intermediate))
        x = g.add(x, g.linear(inner, config.intermediate, hidden))
        x = g.layer_norm(x, hidden, epsilon=epsilon)
    first = g.op("Flatten", g.op("Slice", x, *map(g.constant, ([0], [1], [1]))), axis=1)
    g.output("pooled", g.op("Tanh", g.linear(first, hidden, hidden)), (1, hidden))
    g.output("last_hidden_state", x, (1, config.sequence, hidden))


def _embeddings(g: GraphBuilder, ids: str, token_types: str | None, config: BertConfig) -> str:
    hidden = config.hidden
    words = g.embedding(ids, config.vocabulary, hidden)
    kinds = g.embedding(token_types or g.constant([0]), config.token_types, hidden)
    span = range(config.first_position, config.first_position + config.sequence)
    positions = g.embedding(g.constant(span), config.positions, hidden)
    return g.layer_norm(g.add(g.add(words, kinds), positions), hidden, epsilon=config.epsilon)


def _score_bias(g: GraphBuilder, mask: str) -> str:
    """batch x sequence of 0 and 1 to batch x 1 x 1 x sequence of 0 and very negative."""
    float32 = 1
    spread = g.op("Unsqueeze", g.op("Cast", mask, to=float32), g.constant([1, 2]))
    return g.op("Mul", g.op("Sub", g.constant(1.0), spread), g.constant(_MASKED))
