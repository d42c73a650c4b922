"""What the compiler will make of candidates: foretold, looked at by boosters, kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from costmodels import FamilyCostModel
from costmodels._resources import COLUMNS, FIRST_TRAINING, WIDE, ResourceModel, figures
from costmodels.features import FEATURE_LENGTH, IS_GPU, Batch
from costmodels.learner import Learner
from costmodels.store import load_learner, save_learner
from familyseer.measure._cuda_limits import Resources
from familyseer.run._foreign import _try_learner
from tests.costmodels.conftest import result

KEY = "ab" * 8


def rows_of(n: int, seed: int, *, gpu: bool = True) -> np.ndarray:
    """Candidates of n thread tiles, which are their first two features."""
    rows = np.random.default_rng(seed).random((n, FEATURE_LENGTH)).astype(np.float32)
    rows[:, :2] = np.floor(rows[:, :2] * 8)
    rows[:, IS_GPU] = gpu
    return rows


def taken_by(rows: np.ndarray) -> list[Resources]:
    """As a compiler would: a register for each sum of a tile, memory for those that do not fit."""
    sums = np.prod(1 + rows[:, :2].astype(int), axis=1) * 4
    return [
        Resources(min(255, 20 + int(s)), max(0, int(s) - 235) * 4, 1024, min(1.0, 64 / (20 + s)))
        for s in sums
    ]


def taught(n: int = 96) -> ResourceModel:
    model = ResourceModel()
    rows = rows_of(n, seed=1)
    model.learn(rows, figures(taken_by(rows)))
    return model


def batch_of(rows: np.ndarray) -> Batch:
    return Batch(rows, rows[:, 3].astype(float), np.ones(len(rows), dtype=np.bool_))


def seconds_of(rows: np.ndarray) -> np.ndarray:
    return 1e-4 * (1.0 + rows[:, 0].astype(np.float64))


def learner_of_a_gpu() -> Learner:
    """Its boosters look at what is foretold."""
    learner = Learner({KEY: "conv"})
    rows = rows_of(96, seed=1)
    learner.resources.learn(rows, figures(taken_by(rows)))
    learner.learn(KEY, batch_of(rows), seconds_of(rows))
    return learner


def widths(learner: Learner) -> tuple[int, int]:
    own, shared = learner.families["conv"].booster, learner.shared.booster
    assert own is not None
    assert shared is not None
    return own.width, shared.width


def test_unseen_candidates_are_ranked_by_what_they_take() -> None:
    rows = rows_of(96, seed=2)
    foretold, real = taught().predict(rows), figures(taken_by(rows))
    assert foretold.shape == (96, COLUMNS)
    for column in (0, 3):
        assert spearmanr(foretold[:, column], real[:, column]).statistic > 0.6
    # what all take alike is foretold as it is
    np.testing.assert_allclose(foretold[:, 2], np.log2(1025), atol=0.1)


def test_it_trains_first_on_enough_and_again_when_a_quarter_is_new() -> None:
    model, rows = ResourceModel(), rows_of(60, seed=1)
    told = figures(taken_by(rows))
    trainings = []
    for begin, end in ((0, 47), (47, 48), (48, 59), (59, 60)):
        model.learn(rows[begin:end], told[begin:end])
        trainings.append(model.trainings)
    assert trainings == [0, 1, 1, 2]
    assert model.trained_at == 60
    assert model.train_seconds > 0


def test_the_same_candidates_give_the_same_predictions() -> None:
    rows = rows_of(16, seed=2)
    np.testing.assert_array_equal(taught().predict(rows), taught().predict(rows))


def test_rows_stay_as_they_are_until_something_was_compiled() -> None:
    rows = rows_of(4, seed=2)
    assert ResourceModel().widen(rows) is rows
    wide = taught().widen(rows)
    assert wide.shape == (4, WIDE)
    np.testing.assert_array_equal(wide[:, :FEATURE_LENGTH], rows)


def test_nothing_is_foretold_of_candidates_of_a_cpu() -> None:
    assert not taught().predict(rows_of(4, seed=2, gpu=False)).any()


def test_boosters_from_before_the_model_look_at_what_they_learnt_from() -> None:
    learner, rows = Learner({KEY: "conv"}), rows_of(64, seed=3)
    learner.learn(KEY, batch_of(rows), seconds_of(rows))
    unseen = batch_of(rows_of(32, seed=4))
    before = learner.score(KEY, unseen)
    learner.resources.learn(rows, figures(taken_by(rows)))
    assert learner.resources.booster is not None
    assert widths(learner) == (FEATURE_LENGTH, FEATURE_LENGTH)
    np.testing.assert_array_equal(learner.score(KEY, unseen), before)
    learner.learn(KEY, batch_of(rows_of(64, seed=5)), seconds_of(rows_of(64, seed=5)))
    assert widths(learner) == (WIDE, WIDE)
    assert np.isfinite(learner.score(KEY, unseen)).all()
    # what was measured is kept without it, to be foretold anew by a better model
    assert learner.families["conv"].samples.rows.shape == (128, FEATURE_LENGTH)
    assert learner.families["conv"].held_out_accuracy(0) is not None


@pytest.mark.parametrize("samples", [True, False], ids=["same target", "another target"])
def test_boosters_that_look_at_it_are_taken_over_with_it(samples: bool) -> None:
    earlier, mine = learner_of_a_gpu(), Learner({KEY: "conv"})
    mine.absorb(earlier, samples=samples)
    unseen = batch_of(rows_of(32, seed=4))
    assert mine.shared.booster is earlier.shared.booster
    if samples:
        np.testing.assert_array_equal(mine.score(KEY, unseen), earlier.score(KEY, unseen))
    else:
        assert np.ptp(mine.score(KEY, unseen)) > 0
    rows = rows_of(FIRST_TRAINING, seed=6)
    mine.resources.learn(rows, figures(taken_by(rows)))
    # a model of this run's own replaces one of another target as soon as there can be one
    assert mine.resources.trainings == 1
    assert len(mine.resources.rows) == FIRST_TRAINING + 96 * samples
    assert len(earlier.resources.rows) == 96


def test_a_shared_model_of_a_gpu_ranks_candidates_of_a_cpu() -> None:
    mine = Learner({KEY: "conv"})
    mine.absorb(learner_of_a_gpu(), samples=False)
    assert np.ptp(mine.score(KEY, batch_of(rows_of(32, seed=4, gpu=False)))) > 0


def test_the_cost_model_learns_from_compiled_candidates_before_any_is_run(proposed: Any) -> None:
    context, candidates = proposed("cuda", 128)
    model = FamilyCostModel()
    rows = model._inst._batch(context, _locate(model, context), candidates).rows
    told = [
        Resources(round(32 + 8 * row[50 % FEATURE_LENGTH]), 0, 0, 1 / (1 + i % 4))
        for i, row in enumerate(rows)
    ]
    model.learn_resources(context, [*candidates[:50], _Odd()], [*told[:50], told[0]])
    # one without features teaches nothing
    assert model._inst.learner.resources.trained_at == 50
    model.update(context, candidates, [result(1e-3 * (1 + i)) for i in range(len(candidates))])
    (family,) = model._inst.learner.families.values()
    assert family.booster.width == WIDE
    assert np.isfinite(model.predict(context, candidates)).all()


class _Odd:
    sch = None


def _locate(model: Any, context: Any) -> str:
    return str(model._inst._locate(context.mod))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_learner(str(folder), learner_of_a_gpu(), "0.27.0")
    return folder


def test_a_loaded_model_foretells_alike_and_goes_on(saved: Path) -> None:
    before, after = learner_of_a_gpu(), load_learner(str(saved))
    unseen = rows_of(32, seed=4)
    np.testing.assert_array_equal(after.resources.predict(unseen), before.resources.predict(unseen))
    np.testing.assert_array_equal(
        after.score(KEY, batch_of(unseen)), before.score(KEY, batch_of(unseen))
    )
    assert (after.resources.trained_at, after.resources.trainings) == (96, 1)
    after.resources.learn(rows_of(24, seed=7), figures(taken_by(rows_of(24, seed=7))))
    assert after.resources.trainings == 2
    # families that a cost model goes on with look at the model that it teaches
    model = FamilyCostModel()
    model.load(str(saved))
    learner = model._inst.learner
    assert learner.families["conv"].resources is learner.shared.resources is learner.resources
    # reads it as one from elsewhere is read, every tree of it
    _try_learner(str(saved))


def test_what_is_too_little_to_train_on_is_kept(tmp_path: Path) -> None:
    learner, rows = Learner(), rows_of(5, seed=1)
    learner.resources.learn(rows, figures(taken_by(rows)))
    save_learner(str(tmp_path), learner, "0.27.0")
    found = load_learner(str(tmp_path)).resources
    np.testing.assert_array_equal(found.rows, rows)
    assert found.booster is None


def test_nothing_of_it_is_written_where_nothing_was_compiled(tmp_path: Path) -> None:
    save_learner(str(tmp_path), Learner(), "0.27.0")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert "resources" not in json.loads((tmp_path / "manifest.json").read_text())


def _manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _forge(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    _manifest(folder, lambda m: m["resources"]["files"].update({name: digest}))


def _arrays(folder: Path, **arrays: np.ndarray) -> None:
    path = folder / "resources.npz"
    with np.load(path, allow_pickle=False) as archive:
        kept = {**archive, **arrays}
    np.savez(path, **kept)
    _forge("resources.npz", path.read_bytes(), folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "resources.npz").unlink(), r"resources\.npz: no such file"),
        (lambda f: (f / "resources.ubj").write_bytes(b"x"), r"resources\.ubj: damaged"),
        (lambda f: _forge("resources.npz", b"x", f), r"resources\.npz: "),
        (lambda f: _forge("resources.ubj", b"x", f), r"resources\.ubj: not a model in XGBoost"),
        (
            lambda f: _forge("resources.ubj", (f / "shared.ubj").read_bytes(), f),
            rf"resources\.ubj: a model of {WIDE} features: expected {FEATURE_LENGTH}$",
        ),
        (lambda f: _arrays(f, figures=np.zeros((96, 3))), r"resources\.npz: arrays of shapes"),
        (
            lambda f: _arrays(f, figures=np.full((96, COLUMNS), np.nan)),
            r"resources\.npz: numbers that are not finite",
        ),
        (
            lambda f: _manifest(f, lambda m: m["resources"].update(trained_at="soon")),
            r"manifest\.json: resources: ",
        ),
        (lambda f: _manifest(f, lambda m: m.update(resources=[1])), r"manifest\.json: resources: "),
        (
            lambda f: _manifest(f, lambda m: m["resources"]["files"].pop("resources.npz")),
            r"manifest\.json: resources: no resources\.npz",
        ),
        (
            lambda f: _manifest(f, lambda m: m.pop("resources")),
            rf"a model of {WIDE} features: expected {FEATURE_LENGTH}$",
        ),
    ],
    ids=[
        "missing",
        "other digest",
        "no archive",
        "no model",
        "a model of other features",
        "other shapes",
        "not finite",
        "no number",
        "a list",
        "no samples",
        "boosters without what they look at",
    ],
)
def test_damage_is_refused_in_one_line(
    saved: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    damage(folder)
    with pytest.raises(ValueError, match=message) as raised:
        load_learner(str(folder))
    assert "\n" not in str(raised.value)
    assert str(raised.value).count(str(folder)) == 1


def test_a_model_of_other_figures_is_refused(saved: Path, tmp_path: Path) -> None:
    plain = Learner({KEY: "conv"})
    rows = rows_of(96, seed=1)
    plain.learn(KEY, batch_of(rows), seconds_of(rows))
    folder = shutil.copytree(saved, tmp_path / "copy")
    assert plain.shared.booster is not None
    _forge("resources.ubj", plain.shared.booster.to_bytes(), folder)
    with pytest.raises(ValueError, match=r"resources\.ubj: a model of other than 4 figures"):
        load_learner(str(folder))
