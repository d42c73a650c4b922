"""A file of lines that grows by whole, durable batches.

The end of the last batch that reached the disk is known at any time, so a batch that fails half-way
is cut off again, and what is left of one after a crash can only be the file's last lines.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class RecordsError(OSError):
    """Records cannot be read or written: a full disk, a read-only folder, an I/O error.

    What it says in `errno`, `strerror` and `filename` is what the operating system said.
    """

    def __init__(self, number: int | None, reason: str, path: str) -> None:
        super().__init__(number, reason, path)

    @classmethod
    def of(cls, error: OSError, path: Path) -> RecordsError:
        """One for a file, from what the operating system raised."""
        if isinstance(error, RecordsError):
            return error
        return cls(error.errno, error.strerror or type(error).__name__, str(path))

    @property
    def path(self) -> str:
        """The file."""
        return str(self.filename)

    def __str__(self) -> str:
        return f"{self.filename}: cannot be read or written ({self.strerror})"


class Line(NamedTuple):
    """One line of a file.

    Attributes
    ----------
    number
        From 1.
    start, end
        Where it lies in the file, its newline included.
    content
        Without its newline; the first part only of one that is longer than the limit.
    whole
        It ends with a newline and is not longer than the limit.
    """

    number: int
    start: int
    end: int
    content: bytes
    whole: bool


_CHUNK = 1 << 20


def read_lines(path: Path, limit: int) -> Iterator[Line]:
    """Lines of a file, none held longer than `limit` bytes; of a missing file none.

    Raises
    ------
    RecordsError
        It cannot be read.
    """
    try:
        if not path.exists():
            return
        with path.open("rb") as file:
            number = end = 0
            while content := file.readline(limit + 1):
                number, start, end = number + 1, end, end + len(content)
                whole = content.endswith(b"\n")
                rest = content
                while not rest.endswith(b"\n") and (rest := file.readline(_CHUNK)):
                    end += len(rest)
                yield Line(number, start, end, content[:-1] if whole else content, whole)
    except OSError as error:
        raise RecordsError.of(error, path) from None


class Journal:
    """The lines of one file, and those that wait for the next `sync`.

    Parameters
    ----------
    path
        The file; made by the first sync if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = path.stat().st_size if path.exists() else 0
        self._pending = bytearray()

    @property
    def end(self) -> int:
        """Where the next line will begin."""
        return self._synced + len(self._pending)

    def append(self, content: bytes) -> int:
        """Adds a line, given without its newline; returns where it begins."""
        start = self.end
        self._pending += content + b"\n"
        return start

    def read(self, start: int, end: int) -> bytes:
        """Bytes of whole lines, synced or waiting.

        Raises
        ------
        RecordsError
            The file cannot be read, or is shorter than what was written to it.
        """
        if start >= self._synced:
            return bytes(self._pending[start - self._synced : end - self._synced])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            raise RecordsError.of(error, self.path) from None
        if len(content) != end - start:
            raise RecordsError(errno.EIO, "shorter than what was written to it", str(self.path))
        return content

    def _write(self) -> None:
        new = not self.path.exists()
        if not (self._pending or new):
            return
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size < self._synced:
                raise OSError(errno.EIO, "shorter than what was written to it")
            if size > self._synced:
                # what an earlier batch left that could not be cut off then
                os.ftruncate(handle, self._synced)
            waiting = memoryview(bytes(self._pending))
            at = self._synced
            while waiting:
                written = os.pwrite(handle, waiting, at)
                at, waiting = at + written, waiting[written:]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_folder(self.path.parent)

    def _cut_back(self) -> None:
        # where even that fails, the next batch begins by cutting
        with contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size > self._synced:
                os.truncate(self.path, self._synced)

    def _settle(self) -> None:
        self._synced = self.end
        self._pending.clear()


def sync(journals: Sequence[Journal]) -> None:
    """Makes what waits durable, in the order of the journals: all of it, or nothing.

    Raises
    ------
    RecordsError
        A file could not be written; all are as after the last sync, what waits goes on waiting.
    """
    for journal in journals:
        try:
            journal._write()
        except OSError as error:
            for one in journals:
                one._cut_back()
            raise RecordsError.of(error, journal.path) from None
    for journal in journals:
        journal._settle()


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
