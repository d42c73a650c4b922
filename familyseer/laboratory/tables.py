"""Recorded tables: for every subgraph of a network, many measured candidates with features.

A table is one ``.npz`` archive of plain arrays, read without pickle. Rows are kept as float16:
they are logarithms, and half a thousandth of one is below what a tree can use.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels.features import FEATURE_LENGTH, Batch
from costmodels.prior import TERMS
from familyseer.errors import UserError
from familyseer.search._decisions import Slot

FORMAT = 1
SUFFIX = ".table.xz"


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


_ARRAYS = ("rows", "seconds", "build_s", "sketch", "decisions", "drawn")


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
        content = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError):
        raise UserError(
            f"{path}: expected a recorded table, such as record_tables.py writes"
        ) from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes())
            if head["format"] != FORMAT:
                raise UserError(f"{path}: table format {head['format']}, expected {FORMAT}")
            subgraphs = [
                _recorded(number, entry, archive) for number, entry in enumerate(head["subgraphs"])
            ]
        return NetworkTable(head["network"], head["machine"], subgraphs)
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: a damaged table ({error}), expected format {FORMAT}") from None


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


def _recorded(number: int, entry: dict[str, Any], archive: Any) -> Recorded:
    arrays = {name: archive[f"{number}.{name}"] for name in _ARRAYS}
    rows = arrays["rows"].T.astype(np.float32)
    if rows.shape[1] != FEATURE_LENGTH:
        raise ValueError(f"rows of {rows.shape[1]} features, expected {FEATURE_LENGTH}")
    sketches = tuple(
        tuple(Slot(**{**slot, "values": tuple(slot["values"])}) for slot in slots)
        for slots in entry["sketches"]
    )
    return Recorded(
        key=entry["key"],
        name=entry["name"],
        weight=int(entry["weight"]),
        flops=float(entry["flops"]),
        families=dict(entry["families"]),
        sketches=sketches,
        rows=rows,
        seconds=arrays["seconds"].astype(np.float64),
        build_s=arrays["build_s"].astype(np.float64),
        sketch=arrays["sketch"].astype(np.int64),
        decisions=np.ascontiguousarray(arrays["decisions"].T),
        drawn=arrays["drawn"].astype(np.bool_),
    )
