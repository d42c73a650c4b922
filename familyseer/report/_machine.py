"""tuning/machine.json: the machine of a run and what it can do at most, measured when it ended.

A report may be made elsewhere and later, so what it says of the machine is written by the run. The
peaks are those of other people's well-tuned code, NumPy's matrix product and its copies: what a
schedule can hope for, not what a data sheet promises.
"""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.machine import available_cores, cpu_model, memory_bytes
from familyseer.report._facts import plausible
from familyseer.safe_json import load_json, save_json

log = logging.getLogger(__name__)

FILE = "machine.json"
FORMAT = "familyseer-machine"
_SIZE_LIMIT = 1 << 16
# large enough to keep every core busy, and so quick that one of many repeats meets no other load
_MATRIX = 384
# of one copied array; some processors' last cache is larger, which the report cannot know
_COPIED_BYTES = 32 << 20
_LEAST_S = 0.1


@dataclass(frozen=True)
class Machine:
    """What a run knew of its machine.

    Attributes
    ----------
    cpu, system
        The processor's name, and the operating system with its architecture.
    cores
        Physical cores that the run could keep busy.
    memory_bytes
        Memory that it could use.
    peak_flops
        float32 operations a second of NumPy's matrix product on all cores; None if not measured.
    peak_bytes_s
        Bytes a second, read and written, of copying arrays on all cores; None if not measured.
    """

    cpu: str
    system: str
    cores: int
    memory_bytes: int
    peak_flops: float | None = None
    peak_bytes_s: float | None = None


def note_machine(folder: Path, *, device: str, time_s: float) -> None:
    """Writes the file; of the peaks that earlier runs in the folder measured, the higher ones stay.

    Parameters
    ----------
    folder
        The run's ``tuning``.
    device
        Of the run; only a ``cpu`` has its peaks measured.
    time_s
        Seconds that measuring may take, about; too few and nothing is measured.

    Raises
    ------
    OSError
        It cannot be written.
    """
    earlier, _ = read_machine(folder)
    flops, bytes_s = (earlier.peak_flops, earlier.peak_bytes_s) if earlier else (None, None)
    if device == "cpu" and time_s > _LEAST_S:
        measured = measure_peaks(available_cores(), time_s)
        # other load makes a measured peak too low, never too high
        flops, bytes_s = max(measured[0], flops or 0.0), max(measured[1], bytes_s or 0.0)
    machine = Machine(
        cpu_model(),
        f"{platform.system()} {platform.machine()}",
        available_cores(),
        memory_bytes(),
        flops,
        bytes_s,
    )
    save_json(folder / FILE, {"format": FORMAT, "version": 1, **asdict(machine)})


def measure_peaks(cores: int, time_s: float) -> tuple[float, float]:
    """Operations and bytes a second, the best of repeats that take about `time_s` in all."""
    import numpy as np

    left, right = (np.full((_MATRIX, _MATRIX), value, np.float32) for value in (1.0, 0.5))
    product = np.empty_like(left)
    multiply_s = _best_s(lambda: np.matmul(left, right, out=product), time_s / 2)
    source = np.ones(_COPIED_BYTES // 4, np.float32)
    copied = np.empty_like(source)
    parts = list(zip(np.array_split(copied, cores), np.array_split(source, cores), strict=True))
    with ThreadPoolExecutor(cores) as threads:
        # NumPy copies without holding the interpreter's lock
        copy_s = _best_s(
            lambda: list(threads.map(lambda pair: np.copyto(*pair), parts)), time_s / 2
        )
    return 2.0 * _MATRIX**3 / multiply_s, 2.0 * source.nbytes / copy_s


def _best_s(work: Callable[[], Any], time_s: float) -> float:
    best, until = math.inf, time.perf_counter() + time_s
    work()
    while True:
        began = time.perf_counter()
        work()
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended >= until:
            return max(best, 1e-9)


def read_machine(folder: Path) -> tuple[Machine | None, str]:
    """What `note_machine` wrote in a folder; None, and why, where that is not there."""
    path = folder / FILE
    if not path.exists():
        return None, f"{path}: not there"
    try:
        found = load_json(path, what="a run's machine", limit=_SIZE_LIMIT)
    except UserError as error:
        return None, str(error)
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != 1:
        return None, f"{path}: not a run's machine"
    texts = [found.get(name) for name in ("cpu", "system")]
    counts = [found.get(name) for name in ("cores", "memory_bytes")]
    peaks = [found.get(name) for name in ("peak_flops", "peak_bytes_s")]
    usable = (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int and count >= 0 for count in counts)
        and all(peak is None or (type(peak) in (int, float) and plausible(peak)) for peak in peaks)
    )
    if not usable:
        return None, f"{path}: not a run's machine"
    return Machine(*map(str, texts), *counts, *peaks), ""  # type: ignore[arg-type]
