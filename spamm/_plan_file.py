"""Plans as files: NumPy archives without pickle, checked against each other when they are read.

The error bound is not stored but computed again, from the norms and lists that are, so that a
plan from a file is as rigorous as a new one.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spamm._norms import Norms

if TYPE_CHECKING:
    from spamm._plan import Plan, Sizes

    Contents = tuple[list[Plan], Sizes, Sizes, "tuple[int, ...] | None"]

_VERSION = 1
_MOST_DIMENSIONS = 32
# Head of an array in the archive, with room to spare
_HEAD = 4096


def write_plans(
    path: str | os.PathLike[str],
    plans: Sequence[Plan],
    shape: Sizes,
    block: Sizes,
    batch: tuple[int, ...] | None,
) -> None:
    """Write plans of one shape and block to a file; `batch` is None for a single plan."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "version": np.array([_VERSION]),
        "shape": np.array(shape, dtype=np.int64),
        "block": np.array(block, dtype=np.int64),
    }
    if batch is not None:
        arrays["batch"] = np.array(batch, dtype=np.int64)
    for index, plan in enumerate(plans):
        arrays[f"tau{index}"] = np.array([plan.tau])
        for name in ("offsets", "ks", "norms_a", "norms_b"):
            arrays[f"{name}{index}"] = getattr(plan, name)
    # a file's name is left as it is given, where np.savez would add to it
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_plans(path: str | os.PathLike[str]) -> Contents:
    """Plans of a file, their shape and block, and the batch's dimensions (None: a single plan).

    Raises
    ------
    ValueError
        It is no such file, it is damaged, or what it holds is no plan.
    OSError
        It cannot be opened.
    """
    with open(path, "rb") as file, _one_line(os.fspath(path)), zipfile.ZipFile(file) as archive:
        reader = _Reader(archive)
        if reader.integers("version", 1) != (_VERSION,):
            raise ValueError(f"written in another version of this format than {_VERSION}")
        shape, block = reader.sizes("shape", least=0), reader.sizes("block", least=1)
        batch = reader.integers("batch", None) if reader.has("batch") else None
        if min(batch or (), default=0) < 0:
            raise ValueError("batch: expected sizes of at least 0")
        count = 1 if batch is None else math.prod(batch)
        return [reader.plan(index, shape, block) for index in range(count)], shape, block, batch


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
    try:
        yield
    except (
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        SyntaxError,
        NotImplementedError,
        RuntimeError,
        MemoryError,
        OverflowError,
        TypeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: expected a plan that spamm has saved: {reason}") from error


class _Reader:
    """Arrays of an archive, none read before its size and type are known to be right."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def has(self, name: str) -> bool:
        return f"{name}.npy" in self._archive.namelist()

    def array(self, name: str, types: Sequence[type[Any]], most: int) -> npt.NDArray[Any]:
        """An array of one of these types with at most so many elements."""
        if not self.has(name):
            raise ValueError(f"{name} is missing")
        member = self._archive.getinfo(f"{name}.npy")
        if member.file_size > most * 8 + _HEAD:
            raise ValueError(f"{name}: expected at most {most} elements")
        content = io.BytesIO(self._archive.read(member))
        values = np.lib.format.read_array(content, allow_pickle=False)
        if values.dtype not in [np.dtype(each) for each in types]:
            raise ValueError(f"{name}: elements of type {values.dtype}")
        return values

    def integers(self, name: str, count: int | None) -> tuple[int, ...]:
        values = self.array(name, [np.int64], _MOST_DIMENSIONS)
        if values.ndim != 1 or (count is not None and values.size != count):
            raise ValueError(f"{name}: expected {count or 'some'} integers")
        return tuple(values.tolist())

    def sizes(self, name: str, least: int) -> Sizes:
        x, y, z = self.integers(name, 3)
        if min(x, y, z) < least or max(x, y, z) > 1 << 40:
            raise ValueError(f"{name}: expected sizes of at least {least}, got {(x, y, z)}")
        return x, y, z

    def norms(self, name: str, shape: tuple[int, int]) -> Norms:
        values = self.array(name, [np.float64, np.float32], math.prod(shape))
        if values.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
        return np.ascontiguousarray(values)

    def plan(self, index: int, shape: Sizes, block: Sizes) -> Plan:
        from spamm._plan import grid, plan_from_lists

        mb, kb, nb = grid(shape, block)
        norms_a = self.norms(f"norms_a{index}", (mb, kb))
        norms_b = self.norms(f"norms_b{index}", (kb, nb))
        offsets = self.array(f"offsets{index}", [np.int64], mb * nb + 1)
        ks = self.array(f"ks{index}", [np.int32], mb * kb * nb)
        tau = self.array(f"tau{index}", [np.float64], 1)
        _check_lists(offsets, ks, mb * nb, kb)
        if tau.shape != (1,):
            raise ValueError("tau: expected one number")
        return plan_from_lists(norms_a, norms_b, shape, block, float(tau[0]), offsets, ks)


def _check_lists(
    offsets: npt.NDArray[np.int64], ks: npt.NDArray[np.int32], cells: int, kb: int
) -> None:
    if offsets.shape != (cells + 1,) or ks.ndim != 1:
        raise ValueError(f"offsets: expected {cells + 1} of them")
    counts = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != ks.size or (counts < 0).any():
        raise ValueError("offsets: expected to rise from 0 to the number of kept products")
    if ks.size and (ks.min() < 0 or ks.max() >= kb):
        raise ValueError(f"ks: expected numbers of at least 0 and below {kb}")
    rises = np.diff(ks) > 0
    # between the lists of two blocks of C it may fall
    starts = offsets[1:-1]
    rises[starts[(starts > 0) & (starts < ks.size)] - 1] = True
    if not rises.all():
        raise ValueError("ks: expected to rise within a block of C")
