"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# of whatever is being written: what a killed process leaves is told by its name
DRAFTS = ".draft-*"


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` at the end, unless there is an error.

    It is beside `path`, has the same extension, and its content is on the disk before its name is
    changed, so that a crash leaves the old file or the new one.

    Parameters
    ----------
    mode
        Permissions of the file.

    Raises
    ------
    OSError
        It cannot be written; `path` is as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=DRAFTS[:-1], suffix=path.suffix)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(mode)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
