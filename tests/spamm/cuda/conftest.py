"""Emulated GPUs in place of this machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from spamm.cuda import _device
from tests.spamm.cuda.emulated_device import EmulatedDevice

Gpus = tuple[EmulatedDevice, ...]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpus:
    """Four GPUs, for everything that asks for this machine's; no configuration was tuned."""
    found = tuple(EmulatedDevice(number) for number in range(4))
    monkeypatch.setattr(_device, "_found", lambda: found)
    monkeypatch.setenv("SPAMM_CACHE", str(tmp_path))
    return found
