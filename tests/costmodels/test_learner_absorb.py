"""What a learner takes over from an earlier one, and what it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from costmodels.features import FEATURE_LENGTH, Batch
from costmodels.learner import Learner


def candidates(n: int, seed: int) -> tuple[Batch, np.ndarray]:
    """Candidates whose first feature decides their time."""
    rng = np.random.default_rng(seed)
    rows = rng.random((n, FEATURE_LENGTH)).astype(np.float32)
    batch = Batch(rows, rng.normal(-3.0, 0.5, n), np.ones(n, dtype=np.bool_))
    return batch, 1e-4 * (1.0 + 4.0 * rows[:, 0].astype(np.float64))


def taught(assigned: dict[str, str], n: int = 24, seed: int = 0) -> Learner:
    """A learner that has seen n candidates of each of its subgraphs."""
    learner = Learner(assigned)
    for i, key in enumerate(assigned):
        learner.learn(key, *candidates(n, seed + i))
    return learner


def test_a_family_of_the_same_name_gets_samples_and_booster() -> None:
    earlier = taught({"a": "conv", "b": "conv"})
    mine = Learner({"a": "conv", "c": "conv"})
    mine.absorb(earlier)
    assert mine.families["conv"].samples.keys == ["a", "b"]
    assert mine.samples("conv") == 48
    assert mine.families["conv"].booster is earlier.families["conv"].booster
    assert mine.shared.booster is earlier.shared.booster
    assert mine.experience("conv") == 48


def test_what_was_absorbed_ranks_a_subgraph_never_measured() -> None:
    mine = Learner({"new": "conv"})
    mine.absorb(taught({"a": "conv", "b": "conv"}, n=64))
    batch, seconds = candidates(64, seed=9)
    order = np.corrcoef(mine.score("new", batch), -seconds)[0, 1]
    assert order > 0.6


def test_samples_of_a_subgraph_known_here_stay_behind() -> None:
    mine = taught({"a": "conv"}, n=5, seed=50)
    mine.absorb(taught({"a": "conv", "b": "conv"}))
    rows, _, seconds = mine.families["conv"].samples.of("a")
    np.testing.assert_array_equal(seconds, candidates(5, 50)[1])
    assert len(rows) == 5
    assert mine.samples("conv") == 5 + 24


def test_the_earlier_learner_is_left_as_it_was() -> None:
    earlier = taught({"a": "conv"})
    mine = Learner({"a": "conv"})
    mine.absorb(earlier)
    before = earlier.families["conv"].accuracy.value, earlier.families["conv"].fusion.weight
    for seed in range(3):
        mine.learn("a", *candidates(16, 70 + seed))
    assert earlier.samples("conv") == 24
    assert before == (
        earlier.families["conv"].accuracy.value,
        earlier.families["conv"].fusion.weight,
    )


def test_a_subgraph_in_another_family_here_brings_its_samples_there() -> None:
    mine = Learner({"a": "sequence-1"})
    mine.absorb(taught({"a": "conv", "b": "conv"}))
    assert mine.families["sequence-1"].samples.keys == ["a"]
    assert "conv" not in mine.families


def test_families_that_this_run_lacks_teach_the_shared_model_alone() -> None:
    mine = Learner({"m": "matmul"})
    mine.absorb(taught({"a": "conv", "b": "pool"}))
    assert list(mine.families) == []
    assert [e.keys for e in mine.shared.elders] == [["a", "b"]]
    assert mine.experience("matmul") == 48
    taken = mine.shared.booster
    mine.learn("m", *candidates(16, 5))
    assert mine.shared.booster is not taken
    assert mine.shared.trained_at == 64


def test_of_several_the_first_absorbed_outranks_and_all_samples_are_merged() -> None:
    last, first = taught({"a": "conv"}), taught({"a": "conv", "b": "conv"}, seed=30)
    mine = Learner({"a": "conv"})
    mine.absorb(last)
    mine.absorb(first)
    assert mine.shared.booster is last.shared.booster
    assert mine.families["conv"].booster is last.families["conv"].booster
    assert mine.samples("conv") == 48
    np.testing.assert_array_equal(mine.families["conv"].samples.of("a")[2], candidates(24, 0)[1])
    # what the booster has not seen is reason enough to train with the next result
    mine.learn("a", *candidates(4, 80))
    assert mine.families["conv"].booster is not last.families["conv"].booster


def test_the_learner_s_own_models_are_never_replaced() -> None:
    mine = taught({"a": "conv"})
    own, shared = mine.families["conv"].booster, mine.shared.booster
    mine.absorb(taught({"b": "conv"}, seed=40))
    assert (mine.families["conv"].booster, mine.shared.booster) == (own, shared)
    assert mine.samples("conv") == 48


def test_without_samples_the_shared_model_alone_is_taken() -> None:
    earlier = taught({"a": "conv", "b": "conv"})
    mine = Learner({"a": "conv"})
    mine.absorb(earlier, samples=False)
    assert mine.shared.booster is earlier.shared.booster
    assert mine.shared.trained_at == mine.experience("conv") == 0
    assert mine.families == {}
    assert mine.shared.elders == []
    # it is only borrowed: this machine's own results replace it
    mine.learn("a", *candidates(32, 3))
    assert mine.shared.booster is not earlier.shared.booster


@pytest.mark.parametrize("samples", [True, False])
def test_a_learner_without_a_shared_model_takes_none(samples: bool) -> None:
    mine = Learner({"a": "conv"}, shared=False)
    mine.absorb(taught({"a": "conv"}), samples=samples)
    assert mine.shared.booster is None
