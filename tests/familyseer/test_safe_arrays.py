"""Archives of arrays: plain ones are read, all others refused before they are unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.safe_arrays import read_arrays

LIMIT = 1 << 20


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def member(content: bytes, name: str = "a.npy", **options: Any) -> bytes:
    """An archive of one file, whatever that is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as made:
        made.writestr(name, content)
    return buffer.getvalue()


def npy(array: Any, head: str | None = None) -> bytes:
    """An array's file, with a head of its own if one is given."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    if head is None:
        return buffer.getvalue()
    body = buffer.getvalue()[128:]
    padded = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + body


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(["one", "twenty"]),
        np.array([], dtype=np.float64),
        np.array(7, dtype=np.int8),
        np.array([True, False]),
        np.zeros((0, 170), dtype=np.float16),
    ],
)
def test_plain_arrays_come_back_as_they_were(array: Any) -> None:
    found = read_arrays(archive(a=array, b=array), LIMIT)
    assert sorted(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], array)
    assert (found["a"].dtype, found["a"].shape) == (array.dtype, array.shape)
    assert found["a"].flags.writeable


class Trap:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickled_objects_are_refused_and_not_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ValueError, match="elements of type object"):
        read_arrays(archive(a=np.array([Trap(mark)], dtype=object)), LIMIT)
    assert not mark.exists()


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = archive(a=np.zeros(1 << 20, dtype=np.float64))
    assert len(bomb) < LIMIT / 50
    with pytest.raises(ValueError, match="more than the 1048576 that are read"):
        read_arrays(bomb, LIMIT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"hello",
        member(b""),
        member(b"hello"),
        member(npy(np.zeros(3)), "a.txt"),
        member(npy(np.zeros(3)), compression=zipfile.ZIP_LZMA),
        member(npy(np.zeros(3))[:-1]),
        member(npy(np.zeros(3)) + b"x"),
        member(npy(np.zeros(1), "{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }")),
        member(npy(np.zeros(1), "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }")),
        member(npy(np.zeros(1), "{'descr': '<V8', 'fortran_order': False, 'shape': (1,), }")),
        member(npy(np.zeros(1), "{'descr': [('a', '<f8')], 'fortran_order': 0, 'shape': ()}")),
        member(npy(np.zeros(1), "__import__('os').abort()")),
        member(npy(np.zeros(1), "'''")),
        member(npy(np.zeros(1), "(" * 100)),
        archive(a=np.zeros(9))[:-30],
    ],
)
def test_what_is_no_archive_of_plain_arrays_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        read_arrays(content, LIMIT)
    assert "\n" not in str(refused.value)


def test_a_name_that_comes_twice_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a.npy", npy(np.zeros(1)))
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a.npy", npy(np.ones(1)))
    with pytest.raises(ValueError, match="names"):
        read_arrays(buffer.getvalue(), LIMIT)
