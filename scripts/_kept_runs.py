"""Runs that are not made again when a benchmark goes on where it was interrupted."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from familyseer.compare import CompareOptions, run_tuner
from familyseer.safe_json import save_json


def folder_for(keep: Path | None, purpose: str) -> Path:
    """The folder to keep runs in; a temporary one where none was asked for."""
    return keep or Path(tempfile.mkdtemp(prefix=f"familyseer-{purpose}-"))


def run_or_read(options: CompareOptions, tuner: str, number: int) -> dict[str, Any]:
    """A run in ``options.out``, or what it gave if it has ended before."""
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / f"{tuner}-{number}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    # what an interrupted run left would be refused as a run to resume
    shutil.rmtree(options.out / f"{tuner}-{number}", ignore_errors=True)
    run = run_tuner(options, tuner, number)
    save_json(kept, run)
    return run
