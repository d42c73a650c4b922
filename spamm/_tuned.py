"""Configurations that were found fastest on this machine, kept from one process to the next.

They are in `tuned.json` in the user's cache folder. Whatever is wrong with that file costs speed,
never a result: what cannot be used is as if it were not there, and the next `remember` replaces it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Sizes = tuple[int, int, int]

VERSION = 1
_FILE = "tuned.json"
# of a few hundred bytes each
_MOST_ENTRIES = 4096
_MOST_BYTES = 8 << 20
# classes of valid ratios are half an octave wide; farther than this one says nothing of another
_FARTHEST = 3


@dataclass(frozen=True)
class Tuned:
    """What was fastest for one class of problems.

    Attributes
    ----------
    backend
        Such as ``"cpu"``.
    device
        What it was measured on: a processor and its threads, or a GPU.
    dtype
        Of A and B.
    shape
        (m, k, n) that it was measured for; sizes within a factor of about 1.4 are of one class.
    valid_ratio
        Share of the block products kept, in (0, 1].
    config
        The backend's configuration in plain values, its ``block`` three integers.
    free
        Whether the block sizes were chosen with the rest; else they were given.
    seconds, untuned_s
        Of one product, planning included, with this configuration and with the backend's default.
    """

    backend: str
    device: str
    dtype: str
    shape: Sizes
    valid_ratio: float
    config: Mapping[str, Any]
    free: bool
    seconds: float
    untuned_s: float

    @property
    def block(self) -> Sizes:
        """SpAMM's blocks (bm, bk, bn)."""
        return _sizes(self.config.get("block"))

    @property
    def key(self) -> tuple[Any, ...]:
        """Entries of one key replace one another: the class of the problem, and what was given."""
        given = None if self.free else self.block
        # what a GPU's tensor cores make of float32, and the type of C, are no matter of speed alone
        kind = self.config.get("unit"), self.config.get("out")
        shape, ratio = shape_class(self.shape), ratio_class(self.valid_ratio)
        return self.backend, self.device, self.dtype, shape, ratio, given, kind


def shape_class(shape: Sizes) -> Sizes:
    """The nearest powers of two, as exponents."""
    m, k, n = (round(math.log2(max(size, 1))) for size in shape)
    return m, k, n


def ratio_class(valid_ratio: float) -> int:
    """The nearest power of the square root of a half, as an exponent: 0 for all products."""
    return round(-2 * math.log2(min(max(valid_ratio, 2.0**-30), 1.0)))


def lookup(
    backend: str,
    device: str,
    dtype: str,
    shape: Sizes,
    *,
    valid_ratio: float | None = None,
    match: Mapping[str, Any] | None = None,
) -> Tuned | None:
    """What is known to be fast for a problem, or None.

    Parameters
    ----------
    backend, device, dtype, shape
        As in `Tuned`.
    valid_ratio
        The entry of the nearest class counts, unless that is more than about three times off. None
        asks for block sizes before anything is known of the products: the entry with free blocks
        of the smallest valid ratio, where block sizes matter most.
    match
        Fields that the configuration must have, such as the plan's block.
    """
    found = [
        each
        for each in entries()
        if (each.backend, each.device, each.dtype) == (backend, device, dtype)
        and shape_class(each.shape) == shape_class(shape)
        and all(_plain(each.config.get(name)) == _plain(v) for name, v in (match or {}).items())
    ]
    if valid_ratio is None:
        return min((e for e in found if e.free), key=lambda e: e.valid_ratio, default=None)
    wanted = ratio_class(valid_ratio)
    near = [(abs(ratio_class(each.valid_ratio) - wanted), each) for each in found]
    near = [pair for pair in near if pair[0] <= _FARTHEST]
    return min(near, key=lambda pair: (pair[0], pair[1].seconds), default=(0, None))[1]


def entries() -> tuple[Tuned, ...]:
    """All that is known, oldest first; nothing where the file is missing or unusable."""
    path = file()
    try:
        status = path.stat()
    except OSError:
        return ()
    return _read(str(path), status.st_mtime_ns, status.st_size, status.st_ino)


def remember(found: Tuned) -> None:
    """Adds an entry in place of an earlier one of its class.

    Raises
    ------
    OSError
        The cache folder cannot be written.
    """
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path):
        kept = [each for each in entries() if each.key != found.key][1 - _MOST_ENTRIES :]
        document = {"version": VERSION, "entries": [asdict(each) for each in (*kept, found)]}
        text = json.dumps(document, indent=1, allow_nan=False)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text + "\n")
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


def file() -> Path:
    """Where entries are kept: in ``$SPAMM_CACHE``, or ``spamm`` in the user's cache folder."""
    named = os.environ.get("SPAMM_CACHE")
    if named:
        return Path(named) / _FILE
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "spamm" / _FILE


@functools.lru_cache(maxsize=4)
def _read(path: str, _changed: int, size: int, _inode: int) -> tuple[Tuned, ...]:
    if size > _MOST_BYTES:
        return ()
    try:
        document = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return ()
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return ()
    listed = document.get("entries")
    found = (_entry(each) for each in listed) if isinstance(listed, list) else ()
    return tuple(each for each in found if each is not None)


def _entry(values: Any) -> Tuned | None:
    """An entry as it was written; None for anything else."""
    try:
        entry = Tuned(**{**values, "shape": _sizes(values["shape"])})
        words = (entry.backend, entry.device, entry.dtype)
        numbers = (entry.valid_ratio, entry.seconds, entry.untuned_s)
        usable = (
            all(isinstance(word, str) for word in words)
            and all(type(number) in (int, float) for number in numbers)
            and all(0 < number < math.inf for number in numbers)
            and entry.valid_ratio <= 1
            and isinstance(entry.config, dict)
            and isinstance(entry.free, bool)
        )
        return entry if usable and entry.block else None
    except (TypeError, KeyError, ValueError):
        return None


def _sizes(values: Any) -> Sizes:
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ValueError(f"expected three sizes, got {values!r}")
    if any(type(value) is not int or not 0 <= value < 1 << 40 for value in values):
        raise ValueError(f"expected sizes, got {values!r}")
    return values[0], values[1], values[2]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes from adding an entry meanwhile, which would be lost."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the later of two writers wins
        yield
        return
    with open(path.with_suffix(".lock"), "w", encoding="ascii") as lock:
        # some file systems know no locks
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
