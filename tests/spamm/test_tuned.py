"""Tuned configurations that are kept: found again, replaced, and never trusted blindly."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spamm
from spamm import _tuned
from spamm._tuned import Tuned

SHAPE = (512, 512, 512)
CONFIG = {"block": [32, 64, 32], "rows": 8}
ENTRY = Tuned("cpu", "a processor", "float32", SHAPE, 0.1, CONFIG, True, 1.0, 2.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPAMM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tuned.json"


def _find(**changes: Any) -> Tuned | None:
    asked = {"backend": "cpu", "device": "a processor", "dtype": "float32", "shape": SHAPE}
    return _tuned.lookup(**{**asked, **changes})


def test_an_entry_is_found_for_its_class_of_shapes_and_ratios() -> None:
    _tuned.remember(ENTRY)
    assert _find() == ENTRY
    assert _find(shape=(600, 400, 512), valid_ratio=0.12) == ENTRY
    assert _find(match={"block": (32, 64, 32)}, valid_ratio=0.1) == ENTRY


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "cuda"},
        {"device": "another"},
        {"dtype": "float64"},
        {"shape": (512, 512, 1024)},
        {"valid_ratio": 1.0},
        {"valid_ratio": 0.1, "match": {"block": (64, 64, 64)}},
    ],
)
def test_what_was_not_tuned_is_not_found(changes: dict[str, Any]) -> None:
    _tuned.remember(ENTRY)
    assert _find(**changes) is None


def test_the_nearest_valid_ratio_counts_and_blocks_come_from_the_smallest() -> None:
    dense = replace(ENTRY, valid_ratio=0.25, config={**CONFIG, "rows": 4})
    _tuned.remember(ENTRY)
    _tuned.remember(dense)
    assert _find(valid_ratio=0.3) == dense
    assert _find(valid_ratio=0.08) == ENTRY
    assert _find() == ENTRY


def test_blocks_that_were_given_are_not_chosen_for_others() -> None:
    _tuned.remember(replace(ENTRY, free=False))
    assert _find() is None
    assert _find(valid_ratio=0.1) is not None


def test_a_later_entry_replaces_the_one_of_its_class() -> None:
    _tuned.remember(ENTRY)
    _tuned.remember(replace(ENTRY, seconds=0.5, shape=(500, 512, 512)))
    assert [each.seconds for each in _tuned.entries()] == [0.5]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b'{"version": 2, "entries": []}',
        b'{"version": 1, "entries": 7}',
        b'{"version": 1, "entries": [null, 3, {}, {"backend": "cpu"}]}',
    ],
)
def test_a_damaged_file_is_as_if_it_were_not_there(content: bytes, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert _find() is None
    _tuned.remember(ENTRY)
    assert _find() == ENTRY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("valid_ratio", 1.5),
        ("valid_ratio", "a lot"),
        ("seconds", -1.0),
        ("shape", [1, 2]),
        ("shape", [1, 2, -3]),
        ("config", {"rows": 8}),
        ("config", {"block": [1, 2, "3"]}),
        ("free", 1),
        ("device", None),
    ],
)
def test_an_entry_that_is_none_is_left_out_alone(field: str, value: Any, cache: Path) -> None:
    cache.parent.mkdir()
    bad = {**asdict(ENTRY), field: value}
    cache.write_text(json.dumps({"version": 1, "entries": [bad, asdict(ENTRY)]}))
    assert _tuned.entries() == (ENTRY,)


def _remember_some(first: int) -> None:
    for number in range(first, first + 10):
        _tuned.remember(replace(ENTRY, device=f"processor {number}"))


def test_processes_that_write_at_once_lose_no_entry() -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_remember_some, args=(first,)) for first in (0, 10, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {each.device for each in _tuned.entries()} == {f"processor {i}" for i in range(30)}


def test_a_folder_that_cannot_be_written_is_an_error_of_remember_alone(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(OSError):
        _tuned.remember(ENTRY)
    assert _tuned.entries() == ()


class TestOnTheCpu:
    """The CPU backend takes tuned configurations, and only those that it can make."""

    @pytest.fixture(autouse=True)
    def backend(self) -> None:
        pytest.importorskip("tvm")

    def _remember(self, block: tuple[int, int, int], **changes: Any) -> Any:
        from spamm.cpu import _choice, space
        from spamm.cpu._config import host_target

        config = replace(space("float32", host_target())[0], block=block)
        values = {**asdict(config), **changes}
        _tuned.remember(replace(ENTRY, device=_choice.device(), config=values))
        return config

    def test_the_tuned_block_and_tile_are_used(self) -> None:
        from spamm import cpu
        from spamm.cpu import _choice

        config = self._remember((24, 40, 56))
        assert cpu.default_block(*SHAPE, np.dtype("float32")) == (24, 40, 56)
        a = np.random.default_rng(0).standard_normal(SHAPE[:2], dtype="float32")
        plan = spamm.plan(a, a, valid_ratio=0.1)
        assert isinstance(plan, spamm.Plan)
        assert plan.block == (24, 40, 56)
        assert _choice.config_of_plan(plan, "float32") == config
        reference = spamm.multiply(plan, a, a, backend="numpy")
        np.testing.assert_allclose(spamm.multiply(plan, a, a), reference, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        "changes",
        [{"rows": 1000}, {"lanes": 3}, {"unroll": 4096}, {"depth": 0}, {"vectors": "2"}, {"x": 1}],
    )
    def test_what_the_generator_would_not_make_is_ignored(self, changes: dict[str, Any]) -> None:
        from spamm import cpu

        before = cpu.default_block(*SHAPE, np.dtype("float32"))
        self._remember((24, 40, 56), **changes)
        assert cpu.default_block(*SHAPE, np.dtype("float32")) == before


def test_looking_up_needs_no_tvm() -> None:
    import subprocess
    import sys

    code = "import sys, spamm._tuned as t; t.entries(); assert 'tvm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
