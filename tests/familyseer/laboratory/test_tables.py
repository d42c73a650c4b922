"""Recorded tables on disk."""

from __future__ import annotations

import io
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.laboratory import tables
from familyseer.laboratory.tables import SUFFIX, NetworkTable, load_table, load_tables, save_table
from tests.familyseer.laboratory.synthetic import make_table


@pytest.fixture(scope="module")
def table() -> NetworkTable:
    return make_table()


@pytest.fixture
def path(tmp_path: Path, table: NetworkTable) -> Path:
    path = tmp_path / "of" / f"small{SUFFIX}"
    save_table(table, path)
    return path


def rewrite(path: Path, change: Any) -> None:
    """Lets a function change the head and the arrays of a table on disk."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as archive:
        arrays = dict(archive)
    head = json.loads(arrays.pop("head").tobytes())
    change(head, arrays)
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=0))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_table(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "expected" in message
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_a_table_comes_back_as_it_was_saved(path: Path, table: NetworkTable) -> None:
    loaded = load_table(path)
    assert (loaded.network, loaded.machine) == (table.network, table.machine)
    assert len(loaded.subgraphs) == len(table.subgraphs)
    for found, saved in zip(loaded.subgraphs, table.subgraphs, strict=True):
        for name in ("key", "name", "weight", "flops", "families", "sketches"):
            assert getattr(found, name) == getattr(saved, name)
        for name in ("sketch", "decisions", "drawn"):
            np.testing.assert_array_equal(getattr(found, name), getattr(saved, name))
        np.testing.assert_allclose(found.seconds, saved.seconds, rtol=1e-6)
        np.testing.assert_allclose(found.build_s, saved.build_s, rtol=1e-3)
        np.testing.assert_allclose(found.rows, saved.rows, rtol=1e-3, atol=1e-3)
        assert np.isinf(found.seconds).any()
        assert found.rows.dtype == np.float32
        assert len(found) == len(saved.seconds)
    assert loaded.best_s == pytest.approx(table.best_s)


def test_candidates_are_given_as_a_cost_model_takes_them(table: NetworkTable) -> None:
    recorded = table.subgraphs[0]
    batch = recorded.batch(np.array([3, 1]))
    np.testing.assert_array_equal(batch.rows, recorded.rows[[3, 1]])
    np.testing.assert_allclose(batch.prior, recorded.rows[[3, 1], -1])
    assert batch.valid.all()
    assert recorded.vector(3).tolist() == recorded.decisions[3].tolist()


def test_the_best_of_a_network_weighs_its_subgraphs(table: NetworkTable) -> None:
    best = [r.weight * r.seconds[np.isfinite(r.seconds)].min() for r in table.subgraphs]
    assert table.best_s == pytest.approx(sum(best))


def test_a_folders_tables_are_read_by_name(tmp_path: Path) -> None:
    for network in ("b", "a"):
        one = make_table((20,))
        save_table(
            NetworkTable(network, one.machine, one.subgraphs), tmp_path / f"{network}{SUFFIX}"
        )
    assert [t.network for t in load_tables(tmp_path)] == ["a", "b"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recorded table in it, expected"):
        load_tables(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path / f"missing{SUFFIX}")


@pytest.mark.parametrize(
    "content", [b"", b"not compressed", lzma.compress(b""), lzma.compress(b"x")]
)
def test_a_file_of_something_else_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refusal(path)


def test_a_file_cut_short_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refusal(path)
    path.write_bytes(lzma.compress(lzma.decompress(whole)[:2000]))
    refusal(path)


def test_another_format_is_told_with_both_numbers(path: Path) -> None:
    rewrite(path, lambda head, _arrays: head.update(format=7))
    assert refusal(path) == ": table format 7, expected 1"


def test_what_lacks_something_is_refused(path: Path, table: NetworkTable) -> None:
    changes = [
        lambda head, _: head.pop("network"),
        lambda head, _: head.pop("machine"),
        lambda head, _: head.pop("subgraphs"),
        lambda head, _: head["subgraphs"][0].pop("flops"),
        lambda head, _: head["subgraphs"][0]["sketches"][0][0].pop("extent"),
        lambda _, arrays: arrays.pop("1.seconds"),
    ]
    for change in changes:
        save_table(table, path)
        rewrite(path, change)
        assert "a damaged table" in refusal(path)


def test_rows_of_another_length_are_refused(path: Path) -> None:
    rewrite(path, lambda _, arrays: arrays.update({"0.rows": arrays["0.rows"][:-1]}))
    assert "features, expected" in refusal(path)


def test_a_table_that_unpacks_to_more_than_the_limit_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_UNPACKED_LIMIT", len(lzma.decompress(path.read_bytes())) - 1)
    refusal(path)


def test_a_candidate_of_an_unknown_sketch_is_refused(path: Path) -> None:
    rewrite(path, lambda _, arrays: arrays.update({"0.sketch": arrays["0.sketch"] + 7}))
    assert "unknown sketch" in refusal(path)
