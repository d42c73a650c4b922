"""Our warm workers for tuners that are not ours, as our own runs use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from familyseer.measure import GpuRunner, WarmBuilder, WarmRunner
from familyseer.measure._gpus import count_used
from familyseer.measure._measure import device_type


@contextmanager
def warm_workers(target: Any) -> Iterator[tuple[WarmBuilder, Any]]:
    """A builder, and a runner on every alike GPU that is visible or on this machine's processor.

    Raises
    ------
    UserError
        The target is CUDA and no GPU here runs its code.
    """
    with ExitStack() as stack:
        builder = WarmBuilder(vector_math=True)
        stack.callback(builder.close)
        on_gpu = device_type(target) == "cuda"
        runner: Any = GpuRunner(arch=str(target.attrs["arch"])) if on_gpu else WarmRunner()
        stack.callback(runner.close)
        yield builder, runner


def gpus_used(runner: Any) -> int | None:
    """How many GPUs of a runner of ours have timed candidates; None for other runners."""
    report = getattr(runner, "gpus", None)
    return None if report is None else count_used(report())
