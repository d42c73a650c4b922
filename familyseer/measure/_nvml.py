"""Clocks and throttling of GPUs while they measure, by NVML; all absent without nvidia-ml-py."""

from __future__ import annotations

import importlib
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

# the bits of nvmlDeviceGetCurrentClocksEventReasons in words; idling (bit 0) slows no kernel
_REASONS = {
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown by software",
    0x040: "thermal slowdown by hardware",
    0x080: "power brake",
    0x100: "display clocks",
}
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
_TEMPERATURE = 0


@dataclass
class Clocks:
    """What NVML told of one GPU over a run.

    Attributes
    ----------
    samples
        How often it was asked.
    sm_mhz, memory_mhz
        The lowest and the highest clock seen; None before the first sample.
    most_sm_mhz
        What the GPU can do.
    hottest_c
        The highest temperature seen.
    throttled
        Why the clocks were held down at some time, and in how many of the samples.
    """

    samples: int = 0
    sm_mhz: tuple[int, int] | None = None
    memory_mhz: tuple[int, int] | None = None
    most_sm_mhz: int | None = None
    hottest_c: int | None = None
    throttled: dict[str, int] = field(default_factory=dict)


class ClockWatch:
    """Asks NVML for the state of some GPUs, at most once in a while for each.

    Parameters
    ----------
    buses
        PCI addresses. One that NVML does not know has no samples.
    every_s
        Least time between two samples of a GPU, in seconds.
    """

    def __init__(self, buses: list[str], *, every_s: float = 0.5) -> None:
        self.driver: str | None = None
        self._every_s = every_s
        self._clocks = {bus: Clocks() for bus in buses}
        self._handles: dict[str, Any] = {}
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()
        try:
            self._nvml: Any = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except Exception:  # not installed, or no driver: NVML's errors are its own classes
            self._nvml = None
            return
        with suppress(Exception):
            self.driver = _text(self._nvml.nvmlSystemGetDriverVersion())
        for bus in buses:
            with suppress(Exception):
                self._handles[bus] = self._nvml.nvmlDeviceGetHandleByPciBusId(bus.encode())

    def clocks(self, bus: str) -> Clocks:
        """What is known of a GPU."""
        return self._clocks.get(bus, Clocks())

    def sample(self, bus: str) -> None:
        """Looks at a GPU, unless it was looked at just now; best while it is busy."""
        with self._lock:
            now = time.monotonic()
            last = self._asked.get(bus)
            if bus not in self._handles or (last is not None and now - last < self._every_s):
                return
            self._asked[bus] = now
            self._note(self._clocks[bus], self._handles[bus])

    def close(self) -> None:
        """Lets go of NVML."""
        with self._lock:
            self._handles.clear()
            if self._nvml is not None:
                with suppress(Exception):
                    self._nvml.nvmlShutdown()
                self._nvml = None

    def _note(self, clocks: Clocks, handle: Any) -> None:
        nvml = self._nvml
        clocks.samples += 1
        # each by itself: what one GPU does not support another does
        with suppress(Exception):
            clocks.sm_mhz = _widen(clocks.sm_mhz, nvml.nvmlDeviceGetClockInfo(handle, _SM_CLOCK))
        with suppress(Exception):
            clocks.memory_mhz = _widen(
                clocks.memory_mhz, nvml.nvmlDeviceGetClockInfo(handle, _MEMORY_CLOCK)
            )
        with suppress(Exception):
            clocks.most_sm_mhz = int(nvml.nvmlDeviceGetMaxClockInfo(handle, _SM_CLOCK))
        with suppress(Exception):
            degrees = int(nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE))
            clocks.hottest_c = max(degrees, clocks.hottest_c or degrees)
        with suppress(Exception):
            bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
            for bit, reason in _REASONS.items():
                if bits & bit:
                    clocks.throttled[reason] = clocks.throttled.get(reason, 0) + 1


def _widen(seen: tuple[int, int] | None, value: Any) -> tuple[int, int]:
    low, high = seen or (int(value), int(value))
    return min(low, int(value)), max(high, int(value))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
