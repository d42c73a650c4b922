"""Matrices in files, NumPy's own and Matrix Market, read within limits.

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
        A ``.npy`` file; an ``.npz`` archive of one array; or a Matrix Market file, ``.mtx`` or
        ``.mtx.gz``, whose integers become float64 and whose patterns become ones.
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
        return _read_npz, "an archive of one array of floats"
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


def _read_array(stream: IO[bytes], size: int, most_bytes: int) -> Array:
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
        members = archive.infolist()
        if len(members) != 1:
            names = ", ".join(sorted(member.filename for member in members)[:5])
            raise ValueError(f"holds {len(members)} arrays: {names}")
        (member,) = members
        if member.flag_bits & 1:
            raise ValueError("is encrypted")
        with archive.open(member) as stream:
            return _read_array(stream, member.file_size, most_bytes)


def _read_market(file: Path, most_bytes: int) -> Array:
    from spamm._matrix_market import read_matrix_market

    return read_matrix_market(file, most_bytes)
