from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spamm
from spamm import BatchPlan, Plan


@pytest.fixture
def plan(decaying: Any) -> Plan:
    made = spamm.plan(
        decaying(40, 30), decaying(30, 50), valid_ratio=0.4, block=(4, 8, 4), backend="numpy"
    )
    assert isinstance(made, Plan)
    return made


def _same(one: Plan, other: Plan) -> bool:
    arrays = ("offsets", "ks", "norms_a", "norms_b")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in arrays
    ) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("shape", "block", "tau", "error_bound", "valid_ratio")
    )


def test_a_plan_comes_back_as_it_was_saved(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "water.plan"
    plan.save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["water.plan"]
    assert _same(Plan.load(path), plan)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (4, 4, 0), (3, 3, 3)])
def test_plans_without_blocks_or_with_one_come_back(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    m, k, n = shape
    plan = spamm.plan(np.ones((m, k)), np.ones((k, n)), tau=0.5, block=8, backend="numpy")
    assert isinstance(plan, Plan)
    plan.save(tmp_path / "plan.npz")
    assert _same(Plan.load(tmp_path / "plan.npz"), plan)


def test_a_batch_comes_back_as_it_was_saved(decaying: Any, tmp_path: Path) -> None:
    a = np.stack([decaying(20, 12, seed=seed) for seed in range(3)])
    plan = spamm.plan(a, decaying(12, 8), valid_ratio=0.5, block=4, backend="numpy")
    assert isinstance(plan, BatchPlan)
    plan.save(tmp_path / "batch.npz")
    loaded = BatchPlan.load(tmp_path / "batch.npz")
    assert loaded.batch == (3,)
    assert all(_same(x, y) for x, y in zip(loaded.plans, plan.plans, strict=True))
    with pytest.raises(ValueError, match=r"batch\.npz: it holds plans of a batch \(3,\)"):
        Plan.load(tmp_path / "batch.npz")


def test_one_plan_is_no_batch(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match=r"plan\.npz: it holds a plan of one product"):
        BatchPlan.load(tmp_path / "plan.npz")


_REFUSED = r"plan\.npz: expected a plan that spamm has saved: "


def test_every_cut_of_a_file_is_refused_in_one_line(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan.save(path)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=_REFUSED) as caught:
            Plan.load(path)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_are_refused_or_change_nothing(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan.save(path)
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        loaded = None
        with contextlib.suppress(ValueError):
            loaded = Plan.load(path)
        assert loaded is None or _same(loaded, plan)


def _changed(path: Path, **arrays: Any) -> None:
    with np.load(path) as file:
        contents = dict(file)
    contents.update(arrays)
    np.savez(path, **{name: value for name, value in contents.items() if value is not None})


def _rising_past_the_end(plan: Plan) -> Any:
    offsets = plan.offsets.copy()
    offsets[-1] += 1
    return offsets


def _swapped(plan: Plan) -> Any:
    cell = int(np.flatnonzero(np.diff(plan.offsets) > 1)[0])
    ks = plan.ks.copy()
    at = plan.offsets[cell]
    ks[[at, at + 1]] = ks[[at + 1, at]]
    return ks


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("version", lambda plan: np.array([99])),
        ("shape", lambda plan: np.array([40, 30])),
        ("shape", lambda plan: np.array([-1, 30, 50])),
        ("shape", lambda plan: np.array([1 << 50, 30, 50])),
        ("block", lambda plan: np.array([4, 0, 4])),
        ("tau", lambda plan: np.array([-1.0])),
        ("tau", lambda plan: np.array([np.nan])),
        ("tau", lambda plan: np.array([1.0, 2.0])),
        ("offsets", lambda plan: plan.offsets[:-1]),
        ("offsets", lambda plan: plan.offsets[::-1].copy()),
        ("offsets", lambda plan: plan.offsets.astype(np.float64)),
        ("offsets", _rising_past_the_end),
        ("ks", lambda plan: plan.ks + 1),
        ("ks", lambda plan: -plan.ks - 1),
        ("ks", _swapped),
        ("ks", lambda plan: np.zeros(100_000, dtype=np.int32)),
        ("norms_a", lambda plan: plan.norms_a.T),
        ("norms_a", lambda plan: -1 - plan.norms_a),
        ("norms_b", lambda plan: np.full_like(plan.norms_b, np.nan)),
        ("norms_b", lambda plan: np.array([["text"]])),
    ],
)
def test_contents_that_are_no_plan_are_refused(
    plan: Plan, tmp_path: Path, name: str, change: Callable[[Plan], Any]
) -> None:
    path = tmp_path / "plan.npz"
    plan.save(path)
    alone = name if name in ("version", "shape", "block") else f"{name}0"
    _changed(path, **{alone: change(plan)})
    with pytest.raises(ValueError, match=_REFUSED):
        Plan.load(path)
    _changed(path, **{alone: None})
    with pytest.raises(ValueError, match=f"{_REFUSED}{alone} is missing"):
        Plan.load(path)


def test_pickles_are_not_opened(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan.save(path)
    with np.load(path) as file:
        contents = dict(file)
    contents["tau0"] = np.array([print], dtype=object)
    np.savez(path, allow_pickle=True, **contents)
    with pytest.raises(ValueError, match=_REFUSED):
        Plan.load(path)


def test_a_small_file_that_unpacks_to_much_is_refused_unread(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan.save(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as target:
        for member in source.infolist():
            if member.filename != "ks0.npy":
                target.writestr(member, source.read(member))
        target.writestr("ks0.npy", bytes(50_000_000), compress_type=zipfile.ZIP_DEFLATED)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=f"{_REFUSED}ks0: expected at most"):
        Plan.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        Plan.load(tmp_path / "nowhere.npz")
