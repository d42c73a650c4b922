"""Reproducers: all that is needed to see a wrong schedule be wrong again, in plain files."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from familyseer.check._verdict import Verdict
from familyseer.errors import UserError
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm
from familyseer.versions import versions_of

FORMAT = 1
_PACKAGES = ("familyseer", "apache-tvm", "apache-tvm-ffi", "numpy")
_MOST_BYTES = 2**26
_FIELDS = {"subgraph": str, "tir": str, "trace": list, "target": str, "kind": str, "seed": int}


def quarantine(
    folder: Path,
    subgraph: Subgraph,
    schedule: Any,
    target: Any,
    seed: int,
    verdict: Verdict,
    case: Path | None,
) -> Path:
    """Writes ``<subgraph>-<n>.json`` into a folder, and beside it an npz with what went in and out.

    Parameters
    ----------
    schedule
        The schedule or its trace.
    case
        The npz, which is moved; None, or a path without a file, where there is none.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trace = schedule.trace if hasattr(schedule, "mod") else schedule
    handle, path = _new_file(folder, re.sub(r"[^A-Za-z0-9_.]+", "_", subgraph.name)[:100])
    inputs = None
    if case is not None and case.exists():
        inputs = path.with_suffix(".npz").name
        shutil.move(str(case), folder / inputs)
    content = {
        "format": FORMAT,
        "subgraph": subgraph.name,
        "key": subgraph.key,
        "reason": verdict.reason,
        "kind": verdict.kind_of_input,
        "error": None if verdict.error is None or math.isinf(verdict.error) else verdict.error,
        "seed": seed,
        "inputs": inputs,
        "target": str(target),
        "versions": versions_of(_PACKAGES),
        "trace": _plain(trace.as_json()),
        "tir": load_tvm().ir.save_json(subgraph.mod),
        "script": subgraph.mod.script().splitlines(),
        "trace_script": str(trace).splitlines(),
    }
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
    return path


def read_reproducer(path: Path) -> dict[str, Any]:
    """What `quarantine` wrote, its fields' types checked.

    Raises
    ------
    UserError
        There is no such file, or it is no reproducer of this version.
    """
    expected = "expected a reproducer from a run's quarantine folder"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: larger than {_MOST_BYTES >> 20} MiB; {expected}")
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {expected}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; {expected}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not of format {FORMAT}; {expected}")
    for name, kind in _FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path}: {name!r} is missing or malformed; {expected}")
    return content


def _new_file(folder: Path, name: str) -> tuple[int, Path]:
    number = 1
    while True:
        path = folder / f"{name}-{number}.json"
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), path
        except FileExistsError:
            number += 1


def _plain(value: Any) -> Any:
    """TVM's arrays, maps and boxed numbers as Python's own, for JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "value"):
        return _plain(value.value)
    return [_plain(part) for part in value]
