"""The untuned library: what the tuned one is measured and checked against."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from familyseer.export import _jobs
from familyseer.export._compile import build_library
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.models import LoadedModel, example_inputs
from familyseer.search import Clock

UNTUNED_REPEATS = 2
# the untuned library may be slow; this share of the budget is the most that timing it may take
UNTUNED_SHARE = 0.05


@dataclass
class Reference:
    """The untuned library and what it gives.

    Attributes
    ----------
    outputs
        What the untuned library gave on `inputs`; None if it could not be run in time.
    seconds
        Seconds of one whole-model run.
    compile_s
        Seconds that compiling and linking it took.
    """

    path: Path
    inputs: list[Any]
    outputs: list[Any] | None = None
    seconds: float | None = None
    compile_s: float = 0.0
    folder: Path = field(default_factory=Path)

    def close(self) -> None:
        """Removes the untuned library."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_reference(
    model: LoadedModel, fused: Any, target: Any, device: str, pool: Any, clock: Clock, seed: int
) -> Reference:
    """Compiles the untuned library, runs it on random inputs, and times it."""
    folder = Path(tempfile.mkdtemp(prefix="familyseer-untuned-"))
    made = example_inputs(model.inputs, seed=seed)
    reference = Reference(
        path=folder / "untuned.so",
        inputs=[made[spec.name] for spec in model.inputs],
        folder=folder,
    )
    began = time.monotonic()
    build_library(fused, target, reference.path)
    reference.compile_s = time.monotonic() - began
    budget = clock.budget_s if clock.budget_s is not None else math.inf
    path = str(reference.path)
    try:
        running = pool.submit(_jobs.run_library, path, device, reference.inputs)
        reference.outputs = await_future(running, clock.left_s)
        times = await_future(
            pool.submit(
                _jobs.time_libraries,
                {"untuned": path},
                device,
                reference.inputs,
                UNTUNED_REPEATS,
                UNTUNED_SHARE * min(budget, 600.0),
            ),
            clock.left_s,
        )
        reference.seconds = statistics.median(times["untuned"])
    except OutOfTimeError:
        pass
    return reference
