"""Arrays that workers read from a file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from familyseer.measure import WorkerPool
from familyseer.measure._filed import FiledArrays, filed

ARRAYS: dict[str, Any] = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a scalar": np.array(7, dtype=np.int64),
    "nothing": np.zeros((0, 5), dtype=np.float16),
    "flags": np.array([True, False, True]),
    "small floats": np.arange(6).astype(ml_dtypes.bfloat16).reshape(1, 6, 1),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every other": np.arange(10)[::2],
}


def totals(arrays: list[Any]) -> list[float]:
    return [float(one.astype(np.float64).sum()) for one in arrays]


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_from_its_file_as_it_was(name: str, tmp_path: Path) -> None:
    array = ARRAYS[name]
    filed = FiledArrays([array, array], tmp_path / "file")
    for one in (*filed, *pickle.loads(pickle.dumps(filed))):
        assert one.dtype == array.dtype
        np.testing.assert_array_equal(one, array)


def test_a_worker_is_sent_the_name_of_the_file_alone(tmp_path: Path) -> None:
    large = np.ones((512, 1024), dtype=np.float32)
    filed = FiledArrays([large, *ARRAYS.values()], tmp_path / "file")
    assert len(pickle.dumps(filed)) < 1000
    with WorkerPool(1) as pool:
        assert pool.submit(totals, filed).result() == totals([large, *ARRAYS.values()])


def test_who_reads_them_cannot_change_what_others_read(tmp_path: Path) -> None:
    filed = FiledArrays([ARRAYS["numbers"]], tmp_path / "file")
    with pytest.raises(ValueError, match="read-only"):
        filed[0][0, 0] = 1.0


def test_without_room_on_the_disk_they_are_sent_as_they_are() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs Linux's device that is always full")
    arrays = [ARRAYS["numbers"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # not the device
        assert filed(arrays, full) is arrays
