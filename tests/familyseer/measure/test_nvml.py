"""What is told of GPUs' clocks, with a library that answers as NVML does."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from familyseer.measure._nvml import ClockWatch


class _NotSupportedError(Exception):
    pass


class _Nvml(SimpleNamespace):
    """One GPU whose clock falls while it gets hot; it tells no memory clock."""

    def __init__(self) -> None:
        super().__init__(open=0, looks=0)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.65"

    def nvmlDeviceGetHandleByPciBusId(self, bus: bytes) -> str:  # noqa: N802
        if bus != b"0000:3B:00.0":
            raise _NotSupportedError
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, which: int) -> int:  # noqa: N802
        if which != 1:
            raise _NotSupportedError
        self.looks += 1
        return 1980 - 100 * (self.looks - 1)

    def nvmlDeviceGetMaxClockInfo(self, handle: str, which: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetTemperature(self, handle: str, which: int) -> int:  # noqa: N802
        return 60 + 10 * self.looks

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802
        # idle; from the second look on the power cap and the hardware's own limit
        return 0x1 if self.looks < 2 else 0x4 | 0x40


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = _Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    return made


def test_clocks_and_reasons_are_kept_over_a_run(nvml: Any) -> None:
    watch = ClockWatch(["0000:3B:00.0", "unknown"], every_s=0.0)
    for _ in range(3):
        watch.sample("0000:3B:00.0")
        watch.sample("unknown")
    clocks = watch.clocks("0000:3B:00.0")
    assert clocks.samples == 3
    assert (clocks.sm_mhz, clocks.most_sm_mhz, clocks.memory_mhz) == ((1780, 1980), 1980, None)
    assert clocks.hottest_c == 90
    assert clocks.throttled == {"power cap": 2, "thermal slowdown by hardware": 2}
    assert watch.clocks("unknown").samples == 0
    assert watch.driver == "580.65"
    watch.close()
    watch.close()
    assert nvml.open == 0


def test_a_gpu_is_not_asked_again_at_once(nvml: Any) -> None:
    watch = ClockWatch(["0000:3B:00.0"], every_s=3600.0)
    watch.sample("0000:3B:00.0")
    watch.sample("0000:3B:00.0")
    assert watch.clocks("0000:3B:00.0").samples == 1


@pytest.mark.parametrize("broken", [None, SimpleNamespace()], ids=["not installed", "no driver"])
def test_without_nvml_nothing_is_told(monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    watch = ClockWatch(["0000:3B:00.0"])
    watch.sample("0000:3B:00.0")
    assert watch.clocks("0000:3B:00.0").samples == 0
    assert watch.driver is None
    watch.close()
