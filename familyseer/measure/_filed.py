"""Arrays that worker processes read from a file, for what is too large to be sent to them.

What is sent to a worker is pickled, copied through a pipe and unpickled; for the weights of a large
model that is ten times the seconds of one run. A mapped file costs nothing until it is read.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class FiledArrays(list[Any]):
    """NumPy arrays that are pickled as the name of the file that holds them.

    Parameters
    ----------
    arrays
        Taken over as views of the file, read-only; the ones that are given may be dropped.
    path
        The file, written here. It must outlive whoever is sent this.
    """

    def __init__(self, arrays: Iterable[Any], path: Path) -> None:
        _write(list(arrays), path)
        super().__init__(_read(str(path)))
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (str(self.path),)


def filed(arrays: list[Any], path: Path) -> list[Any]:
    """`FiledArrays`, or the arrays as they are where the disk has no room for them."""
    try:
        return FiledArrays(arrays, path)
    except OSError:
        path.unlink(missing_ok=True)
        return arrays


def _write(arrays: list[Any], path: Path) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(arrays, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    with path.open("wb") as file:
        pickle.dump((head, [view.nbytes for view in views]), file)
        for view in views:
            file.write(bytes(_gap(file.tell())))
            file.write(view)


def _read(path: str) -> list[Any]:
    with open(path, "rb") as file:
        head, sizes = pickle.load(file)
        start = file.tell()
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    buffers = []
    for size in sizes:
        start += _gap(start)
        buffers.append(whole[start : start + size])
        start += size
    return list(pickle.loads(head, buffers=buffers))


def _gap(position: int) -> int:
    """Bytes to the next position that arrays of any type may begin at."""
    return -position % 64
