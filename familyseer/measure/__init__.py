"""Building and running candidates in warm worker processes, behind TVM's Builder and Runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.measure._builder import WarmBuilder
    from familyseer.measure._gpu_runner import GpuRunner
    from familyseer.measure._runner import WarmRunner
    from familyseer.measure._workers import WorkerPool

__all__ = ["GpuRunner", "WarmBuilder", "WarmRunner", "WorkerPool"]

__getattr__ = lazily(
    __name__,
    {
        "GpuRunner": "._gpu_runner",
        "WarmBuilder": "._builder",
        "WarmRunner": "._runner",
        "WorkerPool": "._workers",
    },
)
