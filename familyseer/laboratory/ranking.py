"""How well models rank subgraphs that they have never seen, told from recorded tables.

The subgraphs of a network are split into folds. A learner meets the candidates of the other folds
in rounds, as a run would give them to it, and then ranks those of the fold it has not seen. Only
subgraphs with a sibling outside their fold count: without one there is no family to learn from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodels.learner import Learner
from costmodels.metrics import pairwise_accuracy, top_k_recall
from familyseer.laboratory.tables import NetworkTable, Recorded

FOLDS = 4
SAMPLES = 48
ROUND = 16
TOP = 20
LEAST_CANDIDATES = 100

MODELS: dict[str, Callable[[int], Learner]] = {
    "monolithic": lambda seed: Learner(seed=seed, own=False, local=False),
    "family": lambda seed: Learner(seed=seed, shared=False, local=False),
    "fused": lambda seed: Learner(seed=seed, local=False),
}
# the monolithic model without the analytic estimate: what stock MetaSchedule's knows
STOCK = "monolithic, no estimate"


@dataclass(frozen=True)
class Ranking:
    """How one model ranked one unseen subgraph.

    Attributes
    ----------
    accuracy
        Share of pairs in the right order.
    recall
        Share of the `TOP` fastest among the `TOP` best predicted.
    """

    model: str
    subgraph: str
    accuracy: float
    recall: float


def rank_unseen(table: NetworkTable, *, seed: int, method: str = "op") -> list[Ranking]:
    """Every model's ranking of every subgraph that has a sibling, each while it is unseen."""
    rng = np.random.default_rng(seed)
    whole = [one for one in table.subgraphs if len(one) >= LEAST_CANDIDATES]
    fold_of = rng.permutation(len(whole)) % FOLDS
    rankings: list[Ranking] = []
    for fold in range(FOLDS):
        seen = [one for one, f in zip(whole, fold_of, strict=True) if f != fold]
        unseen = [one for one, f in zip(whole, fold_of, strict=True) if f == fold]
        families = {one.families[method] for one in seen}
        unseen = [one for one in unseen if one.families[method] in families]
        if not unseen:
            continue
        rounds = _rounds(seen, rng)
        for name, make in {**MODELS, STOCK: MODELS["monolithic"]}.items():
            learner = make(seed)
            analytic = name != STOCK
            _teach(learner, rounds, method, analytic)
            for one in unseen:
                learner.assign(one.key, one.families[method])
                scores = learner.score(one.key, one.batch(analytic=analytic))
                accuracy = pairwise_accuracy(scores, one.seconds)
                if accuracy is not None:
                    recall = top_k_recall(scores, one.seconds, TOP)
                    rankings.append(Ranking(name, one.name, accuracy, recall))
    return rankings


def _rounds(
    seen: list[Recorded], rng: np.random.Generator
) -> list[tuple[Recorded, npt.NDArray[np.int64]]]:
    """Rounds of each subgraph's candidates, random ones first as in a run, subgraphs in turn."""
    chosen = []
    for one in seen:
        drawn = rng.permutation(np.flatnonzero(one.drawn))[: SAMPLES // 2]
        bred = rng.permutation(np.flatnonzero(~one.drawn))[: SAMPLES - len(drawn)]
        chosen.append(np.concatenate([drawn, bred]))
    return [
        (one, picked[start : start + ROUND])
        for start in range(0, SAMPLES, ROUND)
        for one, picked in zip(seen, chosen, strict=True)
    ]


def _teach(
    learner: Learner,
    rounds: list[tuple[Recorded, npt.NDArray[np.int64]]],
    method: str,
    analytic: bool,
) -> None:
    for one, picked in rounds:
        learner.assign(one.key, one.families[method])
        learner.learn(one.key, one.batch(picked, analytic=analytic), one.seconds[picked])
