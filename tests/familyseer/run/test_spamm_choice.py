"""What SpAMM may skip in a model: which weights are worth a look, which taus the error allows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from familyseer.run._spamm_choice import (
    NEAR_SPARSE,
    Candidate,
    choose_taus,
    near_sparse,
    tau_at,
)
from ops.spamm_operator import Problem, pack_weight

SIDE = 256


def layer(weight: Any, index: int = 0) -> Any:
    """As much of a layer as the choice looks at."""
    problem = Problem(False, 1, 32, SIDE, SIDE, (32, SIDE), (32, SIDE), "float32")
    return SimpleNamespace(index=index, problem=problem, weight=weight, digest=str(index))


def dense() -> Any:
    return np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)


def decaying() -> Any:
    distance = np.abs(np.subtract.outer(np.arange(SIDE), np.arange(SIDE)))
    return (dense() * np.exp(-distance / 10)).astype(np.float32)


def candidate(cpu: Any, index: int) -> Candidate:
    one = layer(decaying(), index)
    return Candidate(one, pack_weight(one.problem, one.weight, cpu, (32, 32)), (32, 32))


def ones(made: Candidate) -> Any:
    kernel = made.packed.kernel
    return np.ones((kernel.strips, kernel.k_blocks), dtype=np.float32)


def forever() -> float:
    return math.inf


def test_dense_weights_are_not_looked_at(cpu: Any) -> None:
    assert near_sparse([layer(dense())], cpu, 1e-2) == []


def test_decaying_and_pruned_weights_are(cpu: Any) -> None:
    pruned = dense() * np.kron(np.eye(8), np.ones((32, 32)))
    found = near_sparse([layer(decaying()), layer(dense(), 1), layer(pruned, 2)], cpu, 1e-3)
    assert [one.layer.index for one in found] == [0, 2]
    # blocks that fit what was pruned
    assert found[1].packed.stored == 8


def test_weights_that_are_not_finite_are_not_looked_at(cpu: Any) -> None:
    weight = decaying()
    weight[3, 3] = np.inf
    assert near_sparse([layer(weight)], cpu, 1e-3) == []


def test_higher_levels_skip_more(cpu: Any) -> None:
    made = candidate(cpu, 0)
    norms = ones(made)
    taus = [tau_at(level, made.packed, norms) for level in (None, -20, -10, 0)]
    assert taus[0] == 0
    ratios = [made.packed.valid_ratio(norms, tau) for tau in taus]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == 1
    assert ratios[-1] < 0.3


def test_the_error_decides(cpu: Any) -> None:
    made = candidate(cpu, 0)
    norms = {0: ones(made)}
    found = [
        choose_taus([made], norms, lambda taus: taus[0], allowed, forever)
        for allowed in (1e-4, 1e-2, 1.0)
    ]
    taus = [one[0] for one in found if one is not None]
    assert taus == sorted(taus)
    assert 0 < taus[-1] <= 1.0
    # within a step of what is allowed
    assert taus[-1] > 0.1


def test_a_sensitive_layer_does_not_hold_back_the_others(cpu: Any) -> None:
    made = [candidate(cpu, index) for index in (0, 1)]
    norms = {one.layer.index: ones(one) for one in made}

    def error(taus: dict[int, float]) -> float:
        return 1e6 * taus[0] + taus[1]

    taus = choose_taus(made, norms, error, 1.0, forever)
    assert taus is not None
    assert error(taus) <= 1.0
    assert made[1].packed.valid_ratio(norms[1], taus[1]) < NEAR_SPARSE
    assert taus[1] > 100 * taus[0]


def test_a_model_that_is_off_already_is_left_alone(cpu: Any) -> None:
    made = candidate(cpu, 0)
    assert choose_taus([made], {0: ones(made)}, lambda _: 1.0, 0.5, forever) is None


def test_without_time_only_zeros_are_skipped(cpu: Any) -> None:
    made = candidate(cpu, 0)
    taus = choose_taus([made], {0: ones(made)}, lambda _: 0.0, 0.5, lambda: 0.0)
    assert taus == {0: 0.0}


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_activations_that_are_not_finite_allow_no_tau(bad: float, cpu: Any) -> None:
    made = candidate(cpu, 0)
    norms = ones(made)
    norms[0, 0] = bad
    assert tau_at(-4, made.packed, norms) == 0
