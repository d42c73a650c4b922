"""Matrices in files: NumPy's and SciPy's formats and Matrix Market, read within limits.

Files may come from elsewhere: nothing is unpickled, and what a file declares is compared with what
may be read before memory is asked for.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_BYTES = 2**33
_LONGEST_HEADER = 10_000
_MOST_MEMBERS = 100
# a row, a column and a value
_BYTES_AN_ENTRY = 24
# what the parsers of headers and archives let through for bytes that are neither
_DAMAGE = (
    KeyError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    struct.error,
    tokenize.TokenError,
)


def read_matrix(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> Array:
    """A dense matrix of floats from a file.

    Parameters
    ----------
    path
        A ``.npy`` file; an ``.npz`` archive of one array, or of a sparse matrix as
        ``scipy.sparse.save_npz`` writes it; or a Matrix Market file, ``.mtx`` or ``.mtx.gz``, whose
        integers become float64 and whose patterns become ones. Sparse formats and Matrix Market
        need SciPy.
    most_bytes
        Most bytes of the dense matrix.

    Returns
    -------
    array of shape (rows, columns)
        float16, float32, float64, or bfloat16 (which NumPy writes as raw pairs of bytes).

    Raises
    ------
    ValueError
        The file is missing, of another kind, damaged, or holds no real matrix of floats, or one
        of more than `most_bytes`. One line that names the file.
    RuntimeError
        SciPy is needed and missing.
    """
    file = Path(path)
    reader, expected = _reader(file)
    with _one_line(file, expected):
        if not file.is_file():
            # opened, because that says why: missing, a folder, not permitted
            file.open("rb").close()
            raise ValueError("not a regular file")
        return _checked(reader(file, most_bytes), most_bytes)


def _reader(file: Path) -> tuple[Callable[[Path, int], Array], str]:
    name = file.name.lower()
    if name.endswith(".npy"):
        return _read_npy, "an array of floats, as numpy.save writes it"
    if name.endswith(".npz"):
        return _read_npz, "an archive of one matrix, as numpy.savez or scipy.sparse.save_npz write"
    if name.endswith((".mtx", ".mtx.gz")):
        return _read_market, "a real matrix in the Matrix Market format"
    raise ValueError(f"{file}: expected a .npy, .npz, .mtx or .mtx.gz file")


@contextlib.contextmanager
def _one_line(file: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or "damaged"
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200] or "damaged"
    except _DAMAGE as error:
        reason = f"damaged ({type(error).__name__})"
    else:
        return
    raise ValueError(f"{file}: {reason}; expected {expected}")


def _checked(matrix: Array, most_bytes: int) -> Array:
    _check_size(matrix.shape, matrix.dtype.itemsize, most_bytes)
    if matrix.dtype.kind == "V" and matrix.dtype.itemsize == 2 and matrix.dtype.fields is None:
        import ml_dtypes

        matrix = matrix.view(ml_dtypes.bfloat16)
    elif matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8:
        raise ValueError(f"elements of type {matrix.dtype}")
    return matrix if matrix.dtype.isnative else matrix.astype(matrix.dtype.newbyteorder("="))


def _check_size(shape: tuple[int, ...], itemsize: int, most_bytes: int) -> None:
    if len(shape) != 2:
        raise ValueError(f"shape {list(shape)}, not two-dimensional")
    size = math.prod(shape) * itemsize
    if size > most_bytes:
        raise ValueError(
            f"{shape[0]} x {shape[1]} is {size:,} bytes dense, more than the {most_bytes:,} read"
        )


def _read_npy(file: Path, most_bytes: int) -> Array:
    with file.open("rb") as stream:
        return _read_array(stream, file.stat().st_size, most_bytes)


def _read_array(stream: IO[bytes], size: int, most_bytes: int, matrix: bool = True) -> Array:
    """One array; what its header declares is what the file's size leaves room for."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"of version {version[0]}.{version[1]}")
    shape, fortran, dtype = read_header(stream, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("holds pickled objects")
    if matrix:
        _check_size(shape, dtype.itemsize, most_bytes)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != size - stream.tell():
        raise ValueError("damaged (its size is not what its header declares)")
    values = np.empty(count, dtype)
    # raw bytes, because memoryview has no word for some element types
    if stream.readinto(values.view(np.uint8)) != values.nbytes:  # type: ignore[attr-defined]
        raise ValueError("damaged (it ends early)")
    return values.reshape(shape, order="F" if fortran else "C")


def _read_npz(file: Path, most_bytes: int) -> Array:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        total = sum(member.file_size for member in members.values())
        if len(members) > _MOST_MEMBERS or total > most_bytes:
            raise ValueError(f"unpacks to {total:,} bytes in {len(members)} arrays")
        sparse = {"format", "shape", "data"} <= members.keys()
        if not sparse and len(members) != 1:
            raise ValueError(f"holds {len(members)} arrays: {', '.join(sorted(members)[:5])}")
        arrays = {}
        for name, member in members.items():
            if member.flag_bits & 1:
                raise ValueError("is encrypted")
            with archive.open(member) as stream:
                arrays[name] = _read_array(stream, member.file_size, most_bytes, not sparse)
    if not sparse:
        return next(iter(arrays.values()))
    shape = tuple(int(extent) for extent in arrays["shape"].ravel())
    _check_size(shape, max(8, arrays["data"].dtype.itemsize), most_bytes)
    _scipy("sparse")
    import scipy.sparse

    dense: Array = scipy.sparse.load_npz(file).toarray()
    return dense


def _read_market(file: Path, most_bytes: int) -> Array:
    _scipy("io")
    import scipy.io

    rows, columns, entries, _, field, _ = scipy.io.mminfo(file)
    if field == "complex":
        raise ValueError("holds complex numbers")
    _check_size((rows, columns), 8, most_bytes)
    if entries < 0 or entries * _BYTES_AN_ENTRY > 3 * most_bytes:
        raise ValueError(f"declares {entries:,} entries")
    read = scipy.io.mmread(file)
    dense = read if isinstance(read, np.ndarray) else read.toarray()
    return np.ascontiguousarray(dense, dtype=np.float64)


def _scipy(part: str) -> None:
    import importlib

    try:
        importlib.import_module(f"scipy.{part}")
    except ImportError:
        raise RuntimeError(f"reading this format needs scipy.{part}: install scipy") from None
