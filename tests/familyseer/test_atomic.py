"""Files are replaced whole or left as they were."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

from familyseer.atomic import DRAFTS, replacing


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    with replacing(path) as draft:
        assert draft.suffix == ".json"
        assert fnmatch.fnmatch(draft.name, DRAFTS)
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_may_replace_the_draft_itself(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    with replacing(path, mode=0o755) as draft:
        draft.unlink()
        draft.write_bytes(b"\x7fELF")
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "file"):
        pytest.fail("there is nowhere to write to")


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as draft:
        draft.write_text("")
    assert path.stat().st_mode & 0o777 == 0o644
