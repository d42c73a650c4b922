"""How fast a device is, by two kernels that every device times, and which devices are alike.

One kernel computes, the other moves memory: devices may differ in either alone. Devices whose
times are close are one class and their labels are compared with each other; see ``docs/fleet.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from familyseer.fleet._session import Artifact
from familyseer.measure import WarmBuilder
from familyseer.measure._jobs import hashable_args_info
from familyseer.measure._measure import device_type
from familyseer.measure._timing import RunPlan
from familyseer.tvm_env import load_tvm

# noise only adds to a time, so the least of several repeats is what the device can do
PLAN = RunPlan(repeats=7, repeat_ms=10.0)
_BUILD_S = 120.0
_DENSE, _STREAM = 256, 1 << 23
# lanes of the widest vector units; chunks enough for any number of cores
_LANES, _CHUNKS = 16, 256


@dataclass(frozen=True)
class Speed:
    """Seconds of the reference kernels on one device."""

    seconds: tuple[float, ...]

    def over(self, other: Speed) -> float:
        """How many times longer this device takes than another: the geometric mean."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return math.exp(sum(math.log(a / b) for a, b in pairs) / len(self.seconds))

    def like(self, other: Speed, tolerance: float) -> bool:
        """Whether no kernel's times differ by more than `tolerance`, a share of the smaller."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return all(max(a, b) <= (1 + tolerance) * min(a, b) for a, b in pairs)

    def best_of(self, other: Speed) -> Speed:
        """The smaller time of each kernel."""
        return Speed(tuple(map(min, self.seconds, other.seconds)))


class SpeedClasses:
    """Classes of devices, numbered from 0 in the order in which they were met.

    Parameters
    ----------
    tolerance
        Largest difference from a class's first device, as a share.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.speeds: list[Speed] = []

    def find(self, speed: Speed) -> int | None:
        """The class whose first device is nearest, None if none is near enough."""
        alike = [i for i, known in enumerate(self.speeds) if speed.like(known, self.tolerance)]
        return min(alike, key=lambda i: abs(math.log(speed.over(self.speeds[i]))), default=None)

    def place(self, speed: Speed) -> int:
        """The class of a device, a new one where it is like no other."""
        found = self.find(speed)
        if found is None:
            self.speeds.append(speed)
            found = len(self.speeds) - 1
        return found


class References:
    """The reference kernels, built for a target while the caller goes on.

    Parameters
    ----------
    target
        Of the candidates that the devices will run.
    """

    def __init__(self, target: Any) -> None:
        self._builder = WarmBuilder(workers=1, timeout_s=_BUILD_S)
        self._device_type = device_type(target)
        self._building = [
            (mod, self._builder.start(mod, target)) for mod in reference_modules(target)
        ]

    def built(self) -> list[tuple[Artifact, RunPlan]]:
        """Waits for the builds.

        Raises
        ------
        RuntimeError
            One of them failed.
        """
        info = load_tvm().s_tir.meta_schedule.arg_info.ArgInfo
        made = []
        for mod, future in self._building:
            result, _ = self._builder.finish(future)
            if result.error_msg is not None:
                raise RuntimeError(f"reference kernel: {result.error_msg}")
            args = hashable_args_info(info.from_entry_func(mod, False))
            made.append((Artifact(str(result.artifact_path), self._device_type, args), PLAN))
        return made

    def close(self) -> None:
        """Stops what still builds and removes what was built."""
        self._builder.close()


def reference_modules(target: Any) -> list[Any]:
    """A matrix product of 256 x 256 x 256 and a scaled sum of 8 Mi floats, scheduled."""
    return [_schedule(mod, target) for mod in (_dense(), _stream())]


def _dense() -> Any:
    te = load_tvm(intrinsics=True).te
    a, b = (te.placeholder((_DENSE, _DENSE), name=name) for name in "AB")
    r = te.reduce_axis((0, _DENSE), name="r")
    product = te.compute(
        (_DENSE, _DENSE), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="out"
    )
    return _module([a, b, product])


def _stream() -> Any:
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    a = te.placeholder((_STREAM,), name="A")
    scaled = te.compute((_STREAM,), lambda i: a[i] * tvm.tirx.const(1.5, "float32"), name="out")
    return _module([a, scaled])


def _module(tensors: list[Any]) -> Any:
    tvm = load_tvm()
    func = tvm.te.create_prim_func(tensors).with_attr("tirx.noalias", True)
    return tvm.IRModule({"main": func.with_attr("global_symbol", "main")})


def _schedule(mod: Any, target: Any) -> Any:
    tvm = load_tvm(intrinsics=True)
    if str(target.kind.name) != "llvm":
        with target:
            return tvm.s_tir.dlight.ApplyDefaultSchedule(
                tvm.s_tir.dlight.gpu.Matmul(), tvm.s_tir.dlight.gpu.Fallback()
            )(mod)
    # all cores and vector units at work, as in what is tuned
    schedule = tvm.s_tir.Schedule(mod)
    block = schedule.get_sblock("out")
    rows, *inner = schedule.get_loops(block)
    if inner:
        columns, depth = inner
        outer, lanes = schedule.split(columns, [None, _LANES])
        schedule.reorder(rows, outer, depth, lanes)
    else:
        rows, chunk = schedule.split(rows, [_CHUNKS, None])
        _, lanes = schedule.split(chunk, [None, _LANES])
    schedule.parallel(rows)
    schedule.vectorize(lanes)
    if inner:
        schedule.decompose_reduction(block, depth)
    return schedule.mod
