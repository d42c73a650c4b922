"""Matrix Market files, parsed by NumPy's reader of text.

SciPy's reader (1.17) can crash the process on a file that is cut off or damaged: its parser of
numbers reads past the end of its buffer.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# the format allows 1,024 characters
_LONGEST_LINE = 4096
_FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
_SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
# two indices and a value, as numbers of 8 bytes
_BYTES_AN_ENTRY = 24


class Header(NamedTuple):
    """What the first lines of a file declare; `entries` are lines that follow."""

    rows: int
    columns: int
    entries: int
    layout: str
    field: str
    symmetry: str


def read_matrix_market(path: Path, most_bytes: int) -> Floats:
    """The dense matrix (rows, columns) of a ``.mtx`` or ``.mtx.gz`` file.

    Entries that are given more than once are added up; patterns become ones.

    Raises
    ------
    ValueError
        It is not in the format, holds complex numbers, or needs more than `most_bytes`.
    OSError, EOFError
        It cannot be read or unpacked.
    """
    zipped = path.suffix.lower() == ".gz"
    with (
        gzip.open(path, "rt", encoding="ascii", errors="replace")
        if zipped
        else path.open(encoding="ascii", errors="replace")
    ) as stream:
        lines = _lines(stream)
        header = _read_header(lines)
        if header.rows * header.columns * 8 > most_bytes:
            size = f"{header.rows} x {header.columns} is {header.rows * header.columns * 8:,}"
            raise ValueError(f"{size} bytes dense, more than the {most_bytes:,} read")
        if header.entries * _BYTES_AN_ENTRY > 3 * most_bytes:
            raise ValueError(f"declares {header.entries:,} entries, too many to read")
        numbers = _read_numbers(lines, header)
    return (
        _coordinate(header, numbers) if header.layout == "coordinate" else _array(header, numbers)
    )


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines that are neither empty nor comments; of the banner, the whole line."""
    first = True
    while line := stream.readline(_LONGEST_LINE):
        if len(line) >= _LONGEST_LINE:
            raise ValueError(f"damaged (a line of {_LONGEST_LINE} characters or more)")
        if first or not (line.isspace() or line.startswith("%")):
            yield line
        first = False


def _read_header(lines: Iterator[str]) -> Header:
    banner = next(lines, "").lower().split()
    if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
        raise ValueError("has no banner of a Matrix Market matrix")
    layout, field, symmetry = banner[2:]
    if field not in _FIELDS:
        raise ValueError(f"holds {field[:20]} numbers")
    if layout not in ("coordinate", "array") or symmetry not in _SYMMETRIES:
        raise ValueError(f"is {layout[:20]} {symmetry[:20]}, which the format does not know")
    try:
        sizes = [int(part) for part in next(lines, "").split()]
    except ValueError:
        sizes = []
    if len(sizes) != (3 if layout == "coordinate" else 2) or min(sizes) < 0:
        raise ValueError("has no line of sizes")
    rows, columns = sizes[:2]
    if symmetry != "general" and rows != columns:
        raise ValueError(f"is {symmetry} and {rows} x {columns}")
    if layout == "coordinate":
        entries = sizes[2]
    else:
        below = rows * (rows - 1) // 2
        whole = {"general": rows * columns, "skew-symmetric": below}
        entries = whole.get(symmetry, below + rows)
    return Header(rows, columns, entries, layout, field, symmetry)


def _read_numbers(lines: Iterator[str], header: Header) -> Floats:
    width = 1 if header.layout == "array" else 2 if header.field == "pattern" else 3
    if not header.entries:
        numbers: Floats = np.empty((0, width))
    else:
        # one more than there should be shows that there are too many
        numbers = np.loadtxt(lines, comments=None, ndmin=2, max_rows=header.entries + 1)
    more = len(numbers) > header.entries or next(lines, None) is not None
    if len(numbers) < header.entries or more:
        raise ValueError(f"has {'more' if more else 'fewer'} than {header.entries:,} entries")
    if numbers.shape[1] != width:
        raise ValueError(f"has {numbers.shape[1]} numbers in a line where {width} belong")
    return numbers


def _coordinate(header: Header, numbers: Floats) -> Floats:
    places = numbers[:, :2]
    if not ((places >= 1) & (places <= (header.rows, header.columns))).all():
        raise ValueError("has an index out of bounds")
    i, j = places.astype(np.int64).T - 1
    if not np.array_equal(places.T, (i + 1, j + 1)):
        raise ValueError("has an index that is no integer")
    values = numbers[:, 2] if numbers.shape[1] == 3 else np.ones(len(numbers))
    dense = np.zeros((header.rows, header.columns))
    np.add.at(dense, (i, j), values)
    if header.symmetry != "general":
        other = i != j
        np.add.at(dense, (j[other], i[other]), _mirrored(header, values[other]))
    return dense


def _array(header: Header, numbers: Floats) -> Floats:
    values = numbers[:, 0]
    if header.symmetry == "general":
        return np.ascontiguousarray(values.reshape(header.columns, header.rows).T)
    dense = np.zeros((header.rows, header.columns))
    # column by column downwards, from the diagonal or, where that is zero, below it
    j, i = np.triu_indices(header.rows, 1 if header.symmetry == "skew-symmetric" else 0)
    dense[j, i] = _mirrored(header, values)
    dense[i, j] = values
    return dense


def _mirrored(header: Header, values: Any) -> Any:
    return -values if header.symmetry == "skew-symmetric" else values
