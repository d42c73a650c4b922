"""NumPy archives that may come from elsewhere, read with limits and without pickle.

A few kilobytes of an ``.npz`` can claim, and unpack to, any number of gigabytes. So what its
directory and the heads of its arrays declare is added up and compared before anything is unpacked.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_SUFFIX = ".npy"
_KINDS = "biufU"
# names such as a table of a large network has; a directory alone can hold millions
_MOST_ARRAYS = 100_000
_LONGEST_HEAD = 10_000


def read_arrays(content: bytes, most_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` archive, by name.

    Parameters
    ----------
    most_bytes
        Most bytes of all arrays together, unpacked.

    Raises
    ------
    ValueError
        It is no archive of plain arrays of numbers or text, what it holds is not what it declares,
        or it declares more than `most_bytes`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_directory(members, most_bytes)
            found = {}
            for member in members:
                with archive.open(member) as file:
                    array = _read(file, member.file_size)
                found[member.filename.removesuffix(_SUFFIX)] = array
            return found
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        tokenize.TokenError,
        OSError,
        EOFError,
        SyntaxError,
        # of the directory: encrypted, of an unknown compression, nested without end
        RuntimeError,
        MemoryError,
        OverflowError,
        TypeError,
    ) as error:
        raise ValueError(f"not an archive of plain arrays ({type(error).__name__})") from None


def _check_directory(members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    names = {member.filename for member in members}
    if len(members) > _MOST_ARRAYS or len(names) != len(members):
        raise ValueError("not an archive of plain arrays (names)")
    for member in members:
        plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or not member.filename.endswith(_SUFFIX):
            raise ValueError("not an archive of plain arrays (members)")
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise ValueError(f"arrays of {total} bytes, more than the {most_bytes} that are read")


def _read(file: IO[bytes], size: int) -> npt.NDArray[Any]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not an archive of plain arrays (version)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_LONGEST_HEAD)
    if dtype.kind not in _KINDS:
        raise ValueError(f"not an archive of plain arrays (elements of type {dtype})"[:120])
    count = math.prod(shape)
    if min(shape, default=0) < 0 or len(shape) > 32 or count * dtype.itemsize != size - file.tell():
        raise ValueError("not an archive of plain arrays (sizes)")
    values = np.frombuffer(file.read(), dtype=dtype, count=count)
    # a copy can be written to, as an array that was read from a file can
    return values.reshape(shape, order="F" if fortran else "C").copy(order="K")
