"""The GPUs of this host as CUDA lists them, and which of them may share a subgraph."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.tvm_env import load_tvm

VISIBLE = "CUDA_VISIBLE_DEVICES"
_MOST = 64


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes
    ----------
    name
        What selects it in ``CUDA_VISIBLE_DEVICES``.
    model
        Such as ``NVIDIA H200``.
    arch
        Such as ``sm_90``.
    multiprocessors, l2_bytes
        As the driver tells them; 0 if it does not.
    bus
        Its PCI address, by which NVML knows it; empty if unknown.
    """

    name: str
    model: str
    arch: str
    multiprocessors: int
    l2_bytes: int = 0
    bus: str = ""

    @property
    def kind(self) -> tuple[str, str, int]:
        """What GPUs have in common whose times may be compared with each other."""
        return self.model, self.arch, self.multiprocessors


def list_gpus() -> list[Gpu]:
    """The GPUs that this process may use, in CUDA's order; to be called in a worker.

    The tuner's own process stays without a CUDA context, which would hold memory on each of them.
    """
    tvm = load_tvm()
    found = []
    for index, name in zip(range(_MOST), visible_names(os.environ), strict=False):
        device = tvm.cuda(index)
        if not device.exist:
            break
        found.append(
            Gpu(
                name=name,
                model=str(device.device_name),
                arch="sm_" + str(device.compute_version).replace(".", ""),
                multiprocessors=int(device.multi_processor_count or 0),
                l2_bytes=int(device.l2_cache_size_bytes or 0),
                bus=_bus(index),
            )
        )
    return found


def visible_names(environ: Mapping[str, str]) -> list[str]:
    """What selects each of the GPUs that an environment shows, in CUDA's order."""
    shown = environ.get(VISIBLE)
    if shown is None:
        return [str(index) for index in range(_MOST)]
    return [name.strip() for name in shown.split(",") if name.strip()]


def alike(gpus: Sequence[Gpu]) -> tuple[list[Gpu], list[str]]:
    """The GPUs of the first one's kind, and a warning for each other kind.

    Times of one subgraph are compared with each other, so they come from one kind of GPU.
    """
    kept = [gpu for gpu in gpus if gpu.kind == gpus[0].kind]
    others: dict[str, int] = {}
    for gpu in gpus:
        if gpu.kind != gpus[0].kind:
            others[gpu.model] = others.get(gpu.model, 0) + 1
    return kept, [
        f"{count} x {model} {'is' if count == 1 else 'are'} left alone: candidates are compared "
        f"on {len(kept)} x {gpus[0].model} only"
        for model, count in others.items()
    ]


def can_run(gpu: str, code: str) -> bool:
    """Whether machine code for one architecture runs on a GPU of another, as CUDA's manual has it.

    Code runs on its own generation from its own version on; code that uses what only one
    architecture has (``sm_90a``) runs on that one.
    """
    here, there = (re.fullmatch(r"sm_(\d+)(\d)([a-z]?)", arch) for arch in (gpu, code))
    if here is None or there is None:
        return gpu == code
    same = here[1] == there[1]
    return same and (here[2] == there[2] if there[3] == "a" else int(here[2]) >= int(there[2]))


def _bus(index: int) -> str:
    try:
        from cuda.bindings import driver

        driver.cuInit(0)
        _, device = driver.cuDeviceGet(index)
        status, name = driver.cuDeviceGetPCIBusId(16, device)
    except (ImportError, RuntimeError):
        return ""
    return name.decode("ascii", "replace").rstrip("\0") if int(status) == 0 else ""


def count_used(report: Sequence[Mapping[str, Any]]) -> int:
    """How many GPUs of a runner's report have timed candidates."""
    return sum(gpu["timed"] > 0 for gpu in report)
