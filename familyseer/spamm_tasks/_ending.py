"""What becomes of a search: the winner against the default, and what `spamm` is told of it."""

from __future__ import annotations

import logging
import math
import statistics
from dataclasses import dataclass
from typing import Any

from familyseer.errors import RunError
from familyseer.measure._failures import TimeLimitError, WorkerError
from familyseer.spamm_tasks._kinds import Values
from familyseer.spamm_tasks._measuring import ConfigBuilder, ConfigRunner
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import config_of

log = logging.getLogger(__name__)

# rounds of the last comparison, and about how long it takes within these
_LEAST_ROUNDS, _MOST_ROUNDS, _DUEL_S = 7, 61, 3.0
# rounds that are not counted
_WARM_UPS = 2


@dataclass(frozen=True)
class Ending:
    """The winner and the default, measured in turns.

    Attributes
    ----------
    config
        The faster one; None where nothing could be measured.
    untuned_s, tuned_s
        Median seconds of the default and of the faster one.
    speedup, speedups
        The rounds' ratios of the default to the winner, and their median. Nothing is faster than
        itself: 1 and none where the default is the winner.
    """

    config: Values | None = None
    untuned_s: float | None = None
    tuned_s: float | None = None
    speedup: float | None = None
    speedups: tuple[float, ...] = ()


def duel_rounds(best_s: float) -> int:
    """Rounds in which the winner, which takes so long, is measured beside the default."""
    return max(_LEAST_ROUNDS, min(_MOST_ROUNDS, int(_DUEL_S / (2 * max(best_s, 1e-6)))))


def duel_s(best_s: float, default_s: float) -> float:
    """About how long that takes."""
    return (duel_rounds(best_s) + _WARM_UPS) * (best_s + default_s)


def compare(task: SpammTask, state: Any, builder: ConfigBuilder, runner: ConfigRunner) -> Ending:
    """Measures the best configuration and the default in turns; the faster one is the winner.

    Parameters
    ----------
    state
        The `familyseer.search.TaskState` of the problem.

    Raises
    ------
    RunError
        Both were measured before and now one of them fails.
    """
    if not state.elite or not math.isfinite(state.best_s):
        return Ending()
    best = config_of(state.elite[0][1].mod) or task.default
    if best == task.default:
        return Ending(best, state.best_s, state.best_s, 1.0)
    paths = {"untuned": builder.build(task.default), "tuned": builder.build(best)}
    built = {name: path for name, path in paths.items() if path is not None}
    if "tuned" not in built:
        raise RunError(f"{task.problem.name}: the best configuration cannot be built any more")
    try:
        seconds = runner.duel(built, duel_rounds(state.best_s))
    except (WorkerError, TimeLimitError, ValueError) as error:
        raise RunError(f"{task.problem.name}: measuring the winner failed: {error}") from None
    tuned_s = statistics.median(seconds["tuned"])
    if "untuned" not in seconds:
        return Ending(best, None, tuned_s)
    untuned_s = statistics.median(seconds["untuned"])
    pairs = zip(seconds["untuned"], seconds["tuned"], strict=True)
    speedups = tuple(untuned / tuned for untuned, tuned in pairs)
    speedup = statistics.median(speedups)
    if speedup < 1:
        return Ending(task.default, untuned_s, untuned_s, 1.0, speedups)
    return Ending(best, untuned_s, tuned_s, speedup, speedups)


def keep(task: SpammTask, end: Ending) -> str | None:
    """Has `spamm` use the winner on this machine; gives the file, None if it cannot be written."""
    from spamm import _tuned

    if end.config is None or end.tuned_s is None:
        return None
    problem = task.problem
    entry = _tuned.Tuned(
        task.kind.backend,
        task.kind.device,
        problem.dtype,
        problem.shape,
        problem.valid_ratio,
        dict(end.config),
        problem.block is None,
        end.tuned_s,
        end.untuned_s or end.tuned_s,
    )
    try:
        _tuned.remember(entry)
    except OSError as error:
        log.warning("%s: cannot be written: %s", _tuned.file(), error.strerror)
        return None
    return str(_tuned.file())
