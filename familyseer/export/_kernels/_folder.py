"""Writing a library's folder: whole or not at all, and never over what is not one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from familyseer.errors import UserError
from familyseer.kernels._manifest import NAME, read_manifest

_EXPECTED = "expected a new folder, an empty one, or a kernel library to replace"


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` at the end, unless there is an error.

    Raises
    ------
    UserError
        `folder` is a file, cannot be written, or holds anything but a kernel library.
    """
    refuse_foreign(folder)
    folder = Path(os.path.abspath(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); {_EXPECTED}") from None
    try:
        yield draft
        draft.chmod(0o755)
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        _swap(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def refuse_foreign(folder: Path) -> None:
    """Makes sure that nothing but a kernel library would be replaced.

    Raises
    ------
    UserError
        As `replacing`.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder}: is no folder; {_EXPECTED}")
    try:
        found = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    if not found:
        return
    try:
        known = {NAME, *read_manifest(folder).files}
    except ValueError:
        raise UserError(f"{folder}: holds other files; {_EXPECTED}") from None
    strangers = sorted(found - known)
    if strangers:
        raise UserError(f"{folder}: holds {strangers[0]}, which no library has; {_EXPECTED}")


def _swap(draft: Path, folder: Path) -> None:
    old = draft.with_name(f"{draft.name}-old")
    try:
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise UserError(f"{folder}: cannot be written ({error.strerror}); {_EXPECTED}") from None
    shutil.rmtree(old, ignore_errors=True)
