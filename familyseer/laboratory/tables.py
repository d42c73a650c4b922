"""Recorded tables: for every subgraph of a network, many measured candidates with features.

A table is one ``.npz`` archive of plain arrays, read without pickle. Rows are kept as float16:
they are logarithms, and half a thousandth of one is below what a tree can use.
"""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels.features import FEATURE_LENGTH, Batch
from costmodels.prior import TERMS
from familyseer.errors import UserError
from familyseer.safe_arrays import read_arrays
from familyseer.safe_json import parse_json, read_limited
from familyseer.search._decisions import Slot

FORMAT = 1
SUFFIX = ".table.xz"
# bytes of a table: in its file, and unpacked; the largest recorded ones have a hundredth of that
_FILE_LIMIT = 256 << 20
_UNPACKED_LIMIT = 1 << 30


@dataclass(frozen=True)
class Recorded:
    """The measured candidates of one subgraph.

    Attributes
    ----------
    key, name, weight, flops
        As in `familyseer.subgraphs.Subgraph`.
    families
        Method -> name of the family that the method puts the subgraph in, within its network.
    sketches
        The slots of each sketch.
    rows
        float32, shape (n, features): as `costmodels.features` makes them.
    seconds
        Shape (n,), median seconds of one run; infinite for a candidate that failed.
    build_s
        Shape (n,), seconds its build took, 0 where it failed.
    sketch
        Shape (n,), position of each candidate's sketch.
    decisions
        int32, shape (n, widest sketch), each row padded with zeros.
    drawn
        Shape (n,), bool: sampled at random; the others were bred from fast ones.
    """

    key: str
    name: str
    weight: int
    flops: float
    families: dict[str, str]
    sketches: tuple[tuple[Slot, ...], ...]
    rows: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float64]
    build_s: npt.NDArray[np.float64]
    sketch: npt.NDArray[np.int64]
    decisions: npt.NDArray[np.int32]
    drawn: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def best_s(self) -> float:
        """Seconds of the fastest recorded candidate."""
        return float(self.seconds.min())

    def batch(self, chosen: Any = slice(None), *, analytic: bool = True) -> Batch:
        """Features of some candidates, as a cost model takes them.

        Parameters
        ----------
        analytic
            False leaves out the analytic estimate (`costmodels.prior`), which stock models lack.
        """
        rows = self.rows[chosen]
        valid = np.ones(len(rows), dtype=np.bool_)
        if analytic:
            # the last feature is the estimate that everything starts from
            return Batch(rows, rows[:, -1].astype(float), valid)
        rows = rows.copy()
        rows[:, -(len(TERMS) + 1) :] = 0.0
        return Batch(rows, np.zeros(len(rows)), valid)

    def vector(self, index: int) -> npt.NDArray[np.int32]:
        """The decisions of one candidate, without the padding."""
        slots = self.sketches[int(self.sketch[index])]
        return self.decisions[index, : slots[-1].stop if slots else 0]


@dataclass(frozen=True)
class NetworkTable:
    """All recorded subgraphs of a network.

    Attributes
    ----------
    network
        Its name.
    machine
        What it was recorded on: processor, cores, versions, date.
    """

    network: str
    machine: dict[str, Any]
    subgraphs: list[Recorded] = field(default_factory=list)

    @property
    def best_s(self) -> float:
        """The network's estimated latency with every subgraph at its fastest, in seconds."""
        return sum(one.weight * one.best_s for one in self.subgraphs)


# kinds of elements and dimensions
_ARRAYS = {
    "rows": ("f", 2),
    "seconds": ("f", 1),
    "build_s": ("f", 1),
    "sketch": ("iu", 1),
    "decisions": ("iu", 2),
    "drawn": ("b", 1),
}


def save_table(table: NetworkTable, path: Path) -> None:
    """Writes a table as one compressed file."""
    head: dict[str, Any] = {
        "format": FORMAT,
        "network": table.network,
        "machine": table.machine,
        "subgraphs": [],
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, one in enumerate(table.subgraphs):
        head["subgraphs"].append(
            {
                "key": one.key,
                "name": one.name,
                "weight": one.weight,
                "flops": one.flops,
                "families": one.families,
                "sketches": [[asdict(slot) for slot in slots] for slots in one.sketches],
            }
        )
        # transposed: what one feature is for all candidates compresses best
        arrays[f"{number}.rows"] = one.rows.T.astype(np.float16)
        arrays[f"{number}.seconds"] = one.seconds.astype(np.float32)
        arrays[f"{number}.build_s"] = one.build_s.astype(np.float16)
        arrays[f"{number}.sketch"] = one.sketch.astype(np.int8)
        arrays[f"{number}.decisions"] = one.decisions.T.astype(np.int32)
        arrays[f"{number}.drawn"] = one.drawn
    buffer = io.BytesIO()
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=6))


def load_table(path: Path) -> NetworkTable:
    """Reads what `save_table` wrote.

    Raises
    ------
    UserError
        The file is missing, damaged or of another version.
    """
    try:
        content = _unpacked(read_limited(path, _FILE_LIMIT))
    except (OSError, ValueError, lzma.LZMAError):
        raise UserError(
            f"{path}: expected a recorded table, such as record_tables.py writes"
        ) from None
    try:
        arrays = read_arrays(content, _UNPACKED_LIMIT)
        head = parse_json(arrays["head"].tobytes(), "the head of a table")
        if head["format"] != FORMAT:
            raise UserError(f"{path}: table format {head['format']!r:.40}, expected {FORMAT}")
        subgraphs = [
            _recorded(number, entry, arrays) for number, entry in enumerate(head["subgraphs"])
        ]
        return NetworkTable(_text(head["network"]), dict(head["machine"]), subgraphs)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise UserError(
            f"{path}: a damaged table ({str(error)[:200]!r}), expected format {FORMAT}"
        ) from None


def _unpacked(content: bytes) -> bytes:
    unpacker = lzma.LZMADecompressor(memlimit=_UNPACKED_LIMIT)
    # one byte more than is taken tells one that would be larger
    unpacked = unpacker.decompress(content, max_length=_UNPACKED_LIMIT + 1)
    if not unpacker.eof or len(unpacked) > _UNPACKED_LIMIT:
        raise ValueError("not whole, or too large")
    return unpacked


def load_tables(folder: Path) -> list[NetworkTable]:
    """Every table in a folder, by name.

    Raises
    ------
    UserError
        There is none, or one cannot be read.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"{folder}: no recorded table in it, expected files *{SUFFIX}")
    return [load_table(path) for path in paths]


def _recorded(number: int, entry: dict[str, Any], archive: Mapping[str, Any]) -> Recorded:
    arrays = {name: archive[f"{number}.{name}"] for name in _ARRAYS}
    for name, (kinds, dimensions) in _ARRAYS.items():
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim != dimensions:
            raise ValueError(f"{name} of {arrays[name].dtype} in {arrays[name].ndim} dimensions")
    rows = arrays["rows"].T.astype(np.float32)
    if rows.shape[1] != FEATURE_LENGTH:
        raise ValueError(f"rows of {rows.shape[1]} features, expected {FEATURE_LENGTH}")
    sketches = tuple(tuple(map(_slot, slots)) for slots in entry["sketches"])
    found = Recorded(
        key=_text(entry["key"]),
        name=_text(entry["name"]),
        weight=int(entry["weight"]),
        flops=float(entry["flops"]),
        families={_text(method): _text(name) for method, name in entry["families"].items()},
        sketches=sketches,
        rows=rows,
        seconds=arrays["seconds"].astype(np.float64),
        build_s=arrays["build_s"].astype(np.float64),
        sketch=arrays["sketch"].astype(np.int64),
        decisions=np.ascontiguousarray(arrays["decisions"].T),
        drawn=arrays["drawn"].astype(np.bool_),
    )
    _check(found)
    return found


def _check(one: Recorded) -> None:
    n = len(one.seconds)
    lengths = {len(a) for a in (one.rows, one.build_s, one.sketch, one.decisions, one.drawn)}
    if not n or lengths != {n}:
        raise ValueError(f"arrays of {sorted(lengths)} candidates for {n} times")
    if not (one.seconds > 0).all() or not np.isfinite(one.rows).all():
        raise ValueError("times that are not positive, or rows that are not finite")
    if one.sketch.min() < 0 or one.sketch.max() >= len(one.sketches):
        raise ValueError("a candidate of an unknown sketch")
    widest = max(slots[-1].stop if slots else 0 for slots in one.sketches)
    if widest > one.decisions.shape[1]:
        raise ValueError(f"{one.decisions.shape[1]} decisions, expected {widest}")


def _slot(entry: dict[str, Any]) -> Slot:
    slot = Slot(**{**entry, "values": tuple(entry["values"])})
    numbers = (slot.start, slot.width, slot.extent, slot.limit)
    if not all(type(n) is int and 0 <= n < 2**31 for n in numbers):
        raise ValueError("a slot whose numbers are none")
    if not all(isinstance(v, (int, float)) for v in slot.values):
        raise ValueError("a slot whose values are no numbers")
    _text(slot.kind), _text(slot.instruction)
    return slot


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} in place of a name")
    return value
