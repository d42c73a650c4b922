import numpy as np
import pytest

from costmodels._samples import Samples
from costmodels._shared import Shared
from costmodels.metrics import pairwise_accuracy


@pytest.fixture
def grow(recorded):
    """Adds recorded candidates of a subgraph to a family's samples."""

    def add(samples, name, start, stop):
        measured = recorded[name]
        batch = measured.batch()
        part = slice(start, stop)
        samples.add(name, batch.rows[part], batch.prior[part], measured.seconds[part])

    return add


def test_training_waits_for_a_first_few_then_for_a_share_of_what_there_is(grow):
    shared, one, other = Shared(), Samples(), Samples()
    trained = []
    for stop in range(4, 80, 4):
        # half of it from each family: it counts what all of them have
        grow(one, "dense", stop - 4, stop)
        grow(other, "conv2d_1x1_a", stop - 4, stop)
        shared.learn([one, other], seed=0, threads=1)
        if shared.trained_at and (not trained or trained[-1] != shared.trained_at):
            trained.append(shared.trained_at)
    assert trained == [16, 48, 80, 112, 144]
    assert shared.trainings == len(trained)
    assert shared.train_seconds > 0


def test_later_trainings_wait_for_a_quarter_more(grow, recorded):
    shared, samples = Shared(), Samples()
    names = list(recorded)[:3]
    for name in names:
        grow(samples, name, 0, 80)
    shared.learn([samples], seed=0, threads=1)
    assert shared.trained_at == 240
    grow(samples, "dense", 0, 56)
    shared.learn([samples], seed=0, threads=1)
    assert shared.trainings == 1
    grow(samples, "dense", 56, 60)
    shared.learn([samples], seed=0, threads=1)
    assert shared.trainings == 2


def test_a_family_without_samples_is_ranked_by_what_the_others_taught(grow, recorded):
    shared, families = Shared(), [Samples(), Samples()]
    grow(families[0], "conv2d_1x1_a", 0, 80)
    grow(families[1], "conv2d_3x3_a", 0, 80)
    shared.learn([*families, Samples()], seed=0, threads=1)
    unseen = recorded["conv2d_1x1_b"]
    batch = unseen.batch()
    found = pairwise_accuracy(shared.booster.predict(batch.rows, batch.prior), unseen.seconds)
    assert found > 0.65


def test_samples_of_earlier_runs_count(grow):
    shared, elder = Shared(), Samples()
    grow(elder, "dense", 0, 40)
    shared.elders = [elder]
    shared.learn([], seed=0, threads=1)
    assert shared.trained_at == 40
    assert shared.booster is not None


def test_only_failures_train_nothing(recorded):
    batch = recorded["dense"].batch()
    samples = Samples()
    samples.add("dense", batch.rows, batch.prior, np.full(80, np.inf))
    shared = Shared()
    shared.learn([samples], seed=0, threads=1)
    assert shared.booster is None
    assert shared.trainings == 0
