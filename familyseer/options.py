"""What a user asks of a tuning run, in one value that the command line hands to the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from familyseer.tactics import Tactics

# half a model in float16 is off by some thousandths; by this much something is wrong with it
MAX_REL_ERROR = 0.05


@dataclass(frozen=True)
class TuneOptions:
    """The options of one tuning run.

    Attributes
    ----------
    model
        An ``.onnx`` file, a ``.pt2`` file, or the name of a network of the zoo; of a model in
        memory, what it is called.
    out
        The folder that the run writes.
    target
        A target as `familyseer.target.resolve_target` takes it; None for this machine's CPU.
    budget_s
        Wall-clock seconds from the start of the process to the written library; None for no limit.
    trials
        The most candidates that are measured; None for no limit. One of the two limits is set.
    families
        How families are formed, one of `familyseer.families.METHODS`.
    seed
        Makes the choices of the run repeatable, as far as measured times allow.
    workers
        Processes that build candidates; None to let the run choose.
    resume
        Go on from what an earlier run left in `out`.
    input_shapes
        Static extents of inputs whose shape the model leaves open, by input name.
    warm_start
        Folders of earlier runs, of this or other models, whose traces and cost models the run
        starts from.
    warm_start_any_target
        Of earlier runs for another target, take the shared cost model instead of refusing them.
    tactics
        What the search does beyond sampling and ranking.
    precision
        ``float16`` or ``bfloat16`` converts a float32 model, as TVM's mixed precision does.
    spamm
        Let layers with near-sparse weights skip blocks of their products (CPU targets).
    max_rel_error
        The most that `precision` and `spamm` together may change an output of the model, relative
        to its largest magnitude.
    exact_math
        Compile exp, tanh, erf and the like as TVM does (CPU targets), mostly to calls of the C
        library, and not as `familyseer.vector_math` does.
    tracker, device_key
        ``HOST:PORT`` of a TVM RPC tracker and the key of its devices that measure candidates; both
        or none, None to measure on this machine.
    """

    model: str
    out: Path
    target: str | None = None
    budget_s: float | None = None
    trials: int | None = None
    families: str = "op"
    seed: int = 0
    workers: int | None = None
    resume: bool = False
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    warm_start: tuple[Path, ...] = ()
    warm_start_any_target: bool = False
    tactics: Tactics = field(default_factory=Tactics)
    precision: str = "float32"
    spamm: bool = False
    max_rel_error: float = MAX_REL_ERROR
    exact_math: bool = False
    tracker: str | None = None
    device_key: str | None = None


@dataclass(frozen=True)
class CompareOptions:
    """The options of a comparison of tuners on one model.

    Attributes
    ----------
    model, target, seed, input_shapes, precision
        As in `TuneOptions`. Round ``i`` of a tuner, from 0, runs with ``seed + i``.
    out
        The folder for what the runs leave.
    budget_s
        Wall-clock seconds that each run gets.
    tuners
        Their names (see `familyseer.tuners`), in the order in which they take turns.
    rounds
        Runs a tuner, at least 1; rounds alternate between tuners.
    gpus
        GPUs of this host that each run is shown, at least 1. None stands for one where stock
        MetaSchedule takes part, whose runner knows no more, and for all otherwise.
    """

    model: str
    out: Path
    budget_s: float
    tuners: tuple[str, ...]
    target: str | None = None
    rounds: int = 1
    seed: int = 0
    precision: str = "float32"
    gpus: int | None = None
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
