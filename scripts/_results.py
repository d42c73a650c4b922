"""What every benchmark writes beside its figures: the machine, the versions, the day."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

from familyseer.machine import cores, cpu_model
from familyseer.run import versions
from familyseer.safe_json import save_json

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    found = cores()
    return {
        "cpu": cpu_model(),
        "physical_cores": found.physical,
        "available_cores": found.available,
        "system": platform.platform(),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
    }


def save(name: str, result: dict[str, Any]) -> Path:
    """Writes ``benchmarks/results/NAME.json`` and gives its path."""
    path = RESULTS / f"{name}.json"
    save_json(path, {"machine": machine(), **result})
    return path
