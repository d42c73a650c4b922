"""Matrices from files: every format read, everything else refused in one line."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from spamm.matrices import read_matrix

MARKET = "%%MatrixMarket matrix "
VALUES = np.random.default_rng(0).standard_normal((5, 7))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64", ">f4"])
def test_numpy_files_come_back_as_they_were(tmp_path: Path, dtype: Any, order: Any) -> None:
    saved = np.asarray(VALUES.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", saved)
    np.savez_compressed(tmp_path / "a.npz", saved)
    for name in ("a.npy", "a.npz"):
        read = read_matrix(tmp_path / name)
        assert read.dtype == saved.dtype.newbyteorder("=")
        assert np.array_equal(read, saved)
        read[0, 0] = 1.0


@pytest.mark.parametrize("suffix", [".mtx", ".mtx.gz"])
@pytest.mark.parametrize("sparse", [True, False])
def test_matrix_market_files_become_dense(tmp_path: Path, suffix: str, sparse: bool) -> None:
    scipy.io.mmwrite(tmp_path / "a.mtx", scipy.sparse.coo_array(VALUES) if sparse else VALUES)
    text = (tmp_path / "a.mtx").read_bytes()
    path = tmp_path / f"b{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    np.testing.assert_allclose(read_matrix(path), VALUES, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("coordinate pattern symmetric\n3 3 2\n2 1\n3 3\n", [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        ("coordinate integer general\n2 2 1\n1 2 -4\n", [[0, -4], [0, 0]]),
        ("coordinate real skew-symmetric\n2 2 1\n2 1 3.5\n", [[0, -3.5], [3.5, 0]]),
        ("array integer general\n1 2\n3\n4\n", [[3, 4]]),
    ],
)
def test_fields_and_symmetries_of_matrix_market(tmp_path: Path, text: str, values: Any) -> None:
    (tmp_path / "m.mtx").write_text(MARKET + text)
    read = read_matrix(tmp_path / "m.mtx")
    assert read.dtype == np.float64
    assert np.array_equal(read, values)


@pytest.mark.parametrize(
    ("field", "symmetry", "sparse"),
    [
        *itertools.product(
            ("real", "integer"), ("general", "symmetric", "skew-symmetric"), (True, False)
        ),
        ("pattern", "general", True),
        ("pattern", "symmetric", True),
    ],
)
def test_matrix_market_is_read_as_scipy_reads_it(
    tmp_path: Path, field: str, symmetry: str, sparse: bool
) -> None:
    square = np.rint(VALUES[:, :5] * 3)
    whole = {"symmetric": square + square.T, "skew-symmetric": square - square.T}
    matrix = whole.get(symmetry, square)
    path = tmp_path / "m.mtx"
    written: Any = scipy.sparse.coo_array(matrix) if sparse else matrix
    scipy.io.mmwrite(path, written, field=field, symmetry=symmetry, comment="one\ntwo")
    expected = scipy.io.mmread(path)
    assert np.array_equal(read_matrix(path), expected.toarray() if sparse else expected)


def test_entries_given_twice_are_added_up(tmp_path: Path) -> None:
    text = "coordinate real general\n% a comment\n\n1 2 3\n1 2 0.5\n\n1 2 1\n1 1 2"
    (tmp_path / "m.mtx").write_text(MARKET + text)
    assert read_matrix(tmp_path / "m.mtx").tolist() == [[2.0, 1.5]]


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00v\x00" + header.encode().ljust(118)


def saved(array: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


def content(text: bytes | str) -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else (MARKET + text).encode()
    return lambda path: path.write_bytes(data)


SHAPELESS = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("vector.npy", saved(np.zeros(4)), r"shape \[4\]"),
        ("whole.npy", saved(np.ones((2, 2), int)), "type int64"),
        ("complex.npy", saved(np.ones((2, 2), complex)), "type complex128"),
        ("long.npy", saved(np.ones((2, 2), np.longdouble)), "type float128"),
        ("objects.npy", saved(np.array([[None]])), "pickled objects"),
        ("huge.npy", content(npy(SHAPELESS % "99999, 99999")), "more than the"),
        ("short.npy", content(npy(SHAPELESS % "3, 3")), "its header declares"),
        ("negative.npy", content(npy(SHAPELESS % "-1, -3")), "damaged"),
        ("open.npy", content(npy("{'descr': '<f8', 'fortran_order': (((")), "damaged"),
        ("empty.npy", content(b""), "expected an array"),
        ("two.npz", lambda path: np.savez(path, a=VALUES, b=VALUES), "2 arrays: a.npy, b.npy"),
        ("none.npz", content(b"PK123"), "not a zip file"),
        ("text.mtx", content(b"hello"), "Matrix Market"),
        ("far.mtx", content("coordinate real general\n3 3 1\n5 1 1.0\n"), "out of bounds"),
        ("few.mtx", content("array real general\n3 3\n1\n"), "fewer than 9 entries"),
        # a cut inside a number, at which SciPy's reader crashes
        ("cut.mtx", content("coordinate real general\n6 8 19\n6 2 4.545790641556391E"), "convert"),
        ("more.mtx", content("coordinate real general\n3 3 0\n1 1 1\n"), "more than 0"),
        ("half.mtx", content("coordinate real general\n3 3 1\n1.5 1 1\n"), "no integer"),
        ("pairs.mtx", content("array real general\n1 1\n1 2\n"), "2 numbers in a line"),
        ("oblong.mtx", content("array real symmetric\n1 2\n1\n"), "symmetric and 1 x 2"),
        ("sizes.mtx", content("array real general\n1 2 3 4\n1\n"), "no line of sizes"),
        ("vector.mtx", content("vector real general\n1 1\n1\n"), "does not know"),
        ("line.mtx", content("array real general\n1 1\n" + "1" * 5000), "4096 characters"),
        ("wide.mtx", content("coordinate real general\n9999999 9999999 0\n"), "more than the"),
        ("many.mtx", content("coordinate real general\n2 2 99999999999\n"), "99,999,999,999"),
        ("complex.mtx", content("coordinate complex general\n1 1 1\n1 1 1 2\n"), "complex"),
        ("cut.mtx.gz", content(gzip.compress(b"%%MatrixMarket")[:-4]), "end-of-stream"),
        ("folder.npy", Path.mkdir, "Is a directory"),
        ("missing.mtx", lambda path: None, "No such file"),
        ("table.csv", content(b"1,2\n"), "expected a .npy, .npz, .mtx"),
    ],
)
def test_what_is_no_real_matrix_is_refused_in_one_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=reason) as caught:
        read_matrix(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert "\n" not in message


def test_the_limit_is_on_the_dense_size_and_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 10)))
    (tmp_path / "s.mtx").write_text(MARKET + "coordinate real general\n100 100 0\n")
    assert read_matrix(tmp_path / "a.npy", most_bytes=800).shape == (10, 10)
    with pytest.raises(ValueError, match="800 bytes dense, more than the 799"):
        read_matrix(tmp_path / "a.npy", most_bytes=799)
    with pytest.raises(ValueError, match="80,000 bytes dense"):
        read_matrix(tmp_path / "s.mtx", most_bytes=10_000)
