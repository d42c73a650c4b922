"""Unseen subgraphs are ranked by what their siblings taught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from familyseer.laboratory.ranking import MODELS, STOCK, Ranking, rank_unseen
from familyseer.laboratory.tables import NetworkTable
from tests.familyseer.laboratory.synthetic import make_recorded, make_table, without_features


@pytest.fixture(scope="module")
def table() -> NetworkTable:
    recorded = [
        make_recorded(f"dense_{extent}", extent, 120, seed)
        for seed, extent in enumerate((128, 256, 512, 1024))
    ]
    return replace(make_table(), subgraphs=recorded)


@pytest.fixture(scope="module")
def rankings(table: NetworkTable) -> list[Ranking]:
    return rank_unseen(table, seed=0)


def mean_accuracy(rankings: list[Ranking], model: str) -> float:
    return float(np.mean([r.accuracy for r in rankings if r.model == model]))


def test_every_model_ranks_every_subgraph_with_a_sibling(
    table: NetworkTable, rankings: list[Ranking]
) -> None:
    assert {r.model for r in rankings} == {*MODELS, STOCK}
    assert len(rankings) == 4 * len(table.subgraphs)
    assert all(0 <= r.recall <= 1 for r in rankings)


def test_a_subgraph_without_a_sibling_is_left_out(table: NetworkTable) -> None:
    odd = replace(table.subgraphs[0], families={"op": "alone"})
    rest = replace(table, subgraphs=[odd, *table.subgraphs[1:]])
    assert odd.name not in {r.subgraph for r in rank_unseen(rest, seed=0)}


def test_what_siblings_taught_ranks_far_better_than_features_that_mean_nothing(
    table: NetworkTable, rankings: list[Ranking]
) -> None:
    blind = rank_unseen(without_features(table), seed=0)
    for model in MODELS:
        assert mean_accuracy(rankings, model) > 0.7
        assert mean_accuracy(blind, model) < 0.6


def test_the_estimate_is_withheld_from_the_stock_model_alone(table: NetworkTable) -> None:
    only_the_estimate = replace(
        table,
        subgraphs=[
            replace(r, rows=np.where(np.arange(r.rows.shape[1]) < 6, 0, r.rows).astype(np.float32))
            for r in table.subgraphs
        ],
    )
    told = rank_unseen(only_the_estimate, seed=0)
    assert mean_accuracy(told, STOCK) == pytest.approx(0.5, abs=0.02)
    assert mean_accuracy(told, "monolithic") > 0.55
