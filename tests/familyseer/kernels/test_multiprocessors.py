"""The fewest multiprocessors that a kernel needs, measured by a driver that is pretended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from familyseer.kernels import measure_multiprocessors
from familyseer.kernels._multiprocessors import fewest

SOFTMAX = "fused_matmul_softmax"
MAKING = ("Create", "Alloc", "Load", "Retain", "EndCapture", "Instantiate")
UNMAKING = ("Destroy", "Free", "Unload", "Release")


class PretendedDriver:
    """CUDA's driver with a GPU of 132 multiprocessors, whose kernels scale to 60 of them."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._given = {
            "cuDevicePrimaryCtxRetain": "primary",
            "cuCtxFromGreenCtx": "part",
            "cuMemAlloc": 1 << 20,
        }
        self.missing: str | None = None
        self.current: Any = None
        self.part = 132
        self.open = 0
        self.launched: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            return getattr(self._real, name)
        own = getattr(self, f"_{name}", None)

        def call(*args: Any) -> tuple[Any, ...]:
            if name == self.missing:
                return (self._real.CUresult.CUDA_ERROR_NOT_SUPPORTED,)
            # whatever was made must be unmade
            self.open += any(verb in name for verb in MAKING)
            self.open -= any(verb in name for verb in UNMAKING)
            value = own(*args) if own is not None else self._given.get(name)
            values = value if isinstance(value, tuple) else (value,)
            return (self._real.CUresult.CUDA_SUCCESS, *values)

        return call

    def _cuDeviceGetAttribute(self, which: Any, _device: Any) -> int:  # noqa: N802
        name = which.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        answers = {"COMPUTE_CAPABILITY_MAJOR": 9, "COMPUTE_CAPABILITY_MINOR": 0}
        return answers.get(name, 132)

    def _cuDeviceGetDevResource(self, _device: Any, _kind: Any) -> Any:  # noqa: N802
        class Resource:
            class sm:  # noqa: N801
                minSmPartitionSize, smCoscheduledAlignment = 8, 8  # noqa: N815

        return Resource

    def _cuDevSmResourceSplitByCount(  # noqa: N802
        self, _groups: int, _whole: Any, _flags: int, count: int
    ) -> tuple[Any, ...]:
        self.part = count
        return ["group"], 1, "rest"

    def _cuCtxSetCurrent(self, context: Any) -> None:  # noqa: N802
        self.current = context

    def _cuLaunchKernel(self, _function: Any, *sizes: Any) -> None:  # noqa: N802
        self.launched.append((self._confined(), int(sizes[3])))

    def _cuEventElapsedTime(self, _begin: Any, _end: Any) -> float:  # noqa: N802
        return max(1.0, 60 / self._confined())

    def _confined(self) -> int:
        return self.part if self.current == "part" else 132


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> PretendedDriver:
    bindings = pytest.importorskip("cuda.bindings")
    real = pytest.importorskip("cuda.bindings.driver")
    pretended = PretendedDriver(real)
    monkeypatch.setattr(bindings, "driver", pretended)
    return pretended


@pytest.fixture
def library(cuda_library: Path, tmp_path: Path) -> Path:
    """A copy to write in."""
    return Path(shutil.copytree(cuda_library, tmp_path / "library"))


def noted(library: Path) -> dict[str, Any]:
    kernels = json.loads((library / "manifest.json").read_text())["kernels"]
    return {kernel["name"]: kernel["multiprocessors"] for kernel in kernels}


def test_the_fewest_are_those_within_four_percent_of_the_best() -> None:
    assert fewest({8: 2.0, 16: 1.03, 24: 1.05, 32: 1.0}) == 16
    assert fewest({8: 2.0, 132: 1.0}) == 132
    assert fewest({8: 1.0, 132: 1.5}) == 8


def test_each_size_of_part_is_measured_and_the_fewest_noted(
    library: Path, driver: PretendedDriver
) -> None:
    before = noted(library)
    assert before[SOFTMAX]["fewest"] is None
    assert "not measured" in before[SOFTMAX]["reason"]
    # 56 multiprocessors take 7 % longer than the best
    assert measure_multiprocessors(library, names=[SOFTMAX]) == {SOFTMAX: 64}
    assert noted(library)[SOFTMAX] == {"fewest": 64, "of": 132, "reason": None}
    assert noted(library)["cast"] == before["cast"]
    assert {part for part, _ in driver.launched} == {*range(8, 132, 8), 132}
    assert [threads for _, threads in driver.launched[:4]] == [48, 40, 1, 40]
    assert (driver.current, driver.open) == ("primary", 0)


@pytest.mark.parametrize("missing", ["cuGreenCtxCreate", "cuGraphInstantiate"])
def test_a_driver_that_cannot_confine_leaves_none_and_the_reason(
    library: Path, driver: PretendedDriver, missing: str
) -> None:
    driver.missing = missing
    assert measure_multiprocessors(library) == {SOFTMAX: None, "cast": None}
    assert noted(library)[SOFTMAX]["reason"] == f"{missing}: CUDA_ERROR_NOT_SUPPORTED"
    assert driver.open == 0


def test_no_gpu_is_one_line(library: Path, driver: PretendedDriver) -> None:
    driver.missing = "cuInit"
    with pytest.raises(OSError, match=r"GPU 0 cannot be used \(cuInit: CUDA_ERROR_NOT_SUPPORTED"):
        measure_multiprocessors(library)


def test_multiprocessors_are_a_matter_of_cuda_libraries(
    cpu_library: Path, cuda_library: Path
) -> None:
    with pytest.raises(ValueError, match="holds kernels for CPUs"):
        measure_multiprocessors(cpu_library)
    with pytest.raises(ValueError, match="has no kernel 'conv'"):
        measure_multiprocessors(cuda_library, names=["conv"])
