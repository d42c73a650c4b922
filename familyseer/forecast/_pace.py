"""How long candidates take: measured in a short probe, taken from earlier runs, or assumed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from familyseer.duration import format_duration
from familyseer.errors import UserError
from familyseer.report import _facts as facts
from familyseer.report._read import RunData, read_run
from familyseer.units import format_count

if TYPE_CHECKING:
    from familyseer.forecast._probe import Probe

# What a candidate of a whole run cost, over what one of its first round with each subgraph did,
# was 0.74 to 1.44 in 25 runs of five networks on an idle machine with two cores.
_OF_PROBE = (0.7, 1.5)
_OF_SAME_MODEL = (0.8, 1.25)
_OF_OTHER_MODEL = (0.5, 2.0)
# seconds a candidate in those runs
_ASSUMED_S = (0.1, 0.4)
# of a run outside the search; SqueezeNet's 27 subgraphs took 15 to 20 s
_ASSUMED_FIXED_S, _ASSUMED_FIXED_EACH_S = 5.0, 0.5
_TUNING_PHASES = ("search", "build", "measure", "train", "check")
# a longer pause between two rounds is the end of a run and the start of the next one
_PAUSE = 10.0


@dataclass(frozen=True)
class Pace:
    """Seconds of wall-clock time that a run will take, and what that rests on.

    Attributes
    ----------
    low_s, high_s
        For each candidate: searched for, built, measured, learnt from.
    fixed_s
        For everything else: loading, the untuned library, compiling and checking the tuned one.
        None where that is not known.
    basis
        ``probe``, ``earlier run`` or ``assumed``.
    why
        What it rests on, as the end of a sentence.
    """

    low_s: float
    high_s: float
    fixed_s: float | None
    basis: str
    why: str


@dataclass(frozen=True)
class EarlierRun:
    """What an earlier run for the same target left.

    Attributes
    ----------
    folder
        As the user wrote it.
    data
        What is in the folder.
    same_model
        Whether it tuned the model that is asked about.
    """

    folder: Path
    data: RunData
    same_model: bool

    @property
    def untuned_us(self) -> float | None:
        """Its untuned library's latency end to end, None where that was not measured."""
        return facts.positive(self.data.summary, "untuned_us")

    @property
    def tuned_us(self) -> float | None:
        """Its tuned library's."""
        return facts.positive(self.data.summary, "tuned_us")


def read_earlier(folders: Sequence[Path], target: str, digest: str) -> list[EarlierRun]:
    """The earlier runs in folders that were for a target, those of the same model first.

    Folders that hold none are left out.

    Parameters
    ----------
    target, digest
        As the state of a run has them.
    """
    found = []
    for folder in folders:
        try:
            data = read_run(folder)
        except UserError:
            continue
        known = {**data.summary, **data.state}
        if known.get("target") == target:
            found.append(EarlierRun(folder, data, known.get("digest") == digest))
    return sorted(found, key=lambda run: not run.same_model)


def pace_of_run(run: EarlierRun) -> Pace | None:
    """How fast an earlier run was; None if it measured too little to tell."""
    gaps = [
        (after.elapsed_s - before.elapsed_s, after.trials - before.trials)
        for before, after in pairwise(run.data.rounds)
        if after.trials > before.trials
    ]
    if not gaps:
        return None
    usual = statistics.median(seconds for seconds, _ in gaps)
    gaps = [(seconds, trials) for seconds, trials in gaps if seconds <= _PAUSE * usual]
    trials = sum(count for _, count in gaps)
    each_s = sum(seconds for seconds, _ in gaps) / trials
    if each_s <= 0:
        return None
    low, high = _OF_SAME_MODEL if run.same_model else _OF_OTHER_MODEL
    whose = "of this model" if run.same_model else "of another model"
    why = f"{run.folder}: a run {whose} took {each_s:.2g} s for each of {trials} candidates"
    return Pace(low * each_s, high * each_s, _fixed_s(run), "earlier run", why)


def _fixed_s(run: EarlierRun) -> float | None:
    if not run.same_model:
        return None
    elapsed_s = facts.positive(run.data.summary, "elapsed_s")
    phases = facts.mapping(run.data.summary, "phases_s")
    tuning_s = sum(facts.number(phases, name) or 0.0 for name in _TUNING_PHASES)
    if elapsed_s is None or not phases:
        return None
    return max(0.0, elapsed_s - tuning_s)


def pace_of_probe(probe: Probe, loaded_s: float, subgraphs: int) -> Pace | None:
    """How fast a run will be after what was probed; None if no candidate was measured.

    Parameters
    ----------
    loaded_s
        Seconds until the subgraphs were known.
    subgraphs
        Of the whole model.
    """
    if not probe.candidates:
        return None
    each_s = probe.candidates_s / probe.candidates
    low, high = _OF_PROBE
    why = (
        f"a probe just now: {format_count(probe.candidates, 'candidate')} of "
        f"{format_count(probe.subgraphs, 'subgraph')} took "
        f"{format_duration(round(probe.candidates_s, 1))}"
    )
    fixed_s = None
    if probe.builds:
        compile_s = probe.builds_s * subgraphs / probe.builds
        # the untuned library, then the schedules that are shipped, which take longer to compile,
        # and running what was checked
        fixed_s = loaded_s + 3.5 * compile_s + 5.0
    return Pace(low * each_s, high * each_s, fixed_s, "probe", why)


def assumed_pace(reason: str) -> Pace:
    """What runs took that were measured elsewhere, for want of anything nearer.

    Parameters
    ----------
    reason
        Why nothing is known of this machine, as a sentence without its end.
    """
    why = f"{reason}: what small networks took on a machine with two cores is assumed"
    return Pace(*_ASSUMED_S, None, "assumed", why)


def assumed_fixed_s(loaded_s: float, subgraphs: int) -> float:
    """Seconds outside the search where they are not known, as of networks like SqueezeNet."""
    return loaded_s + _ASSUMED_FIXED_S + _ASSUMED_FIXED_EACH_S * subgraphs
