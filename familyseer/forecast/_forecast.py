"""The forecast as a whole: load, cut, form families, measure a little, reckon."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from familyseer.forecast._gain import likely_gain, roofline_us
from familyseer.forecast._pace import (
    EarlierRun,
    Pace,
    assumed_fixed_s,
    assumed_pace,
    pace_of_probe,
    pace_of_run,
    read_earlier,
)
from familyseer.machine import available_cores, cpu_model
from familyseer.measure._measure import device_type
from familyseer.measure._workers import warm_up
from familyseer.options import TuneOptions
from familyseer.report._machine import measure_peaks
from familyseer.report._roofline import Roof
from familyseer.search._loop import FIRST_PASS_SHARE, FIRST_PASS_TRIALS
from familyseer.tvm_env import load_tvm

# a forecast takes at most this share of the budget, and no more than so many seconds of probing
BUDGET_SHARE = 0.1
MOST_PROBE_S = 20.0
# of which less is not worth the start of the workers
_LEAST_PROBE_S = 3.0
_PEAKS_S = 0.4


def forecast(
    options: TuneOptions,
    *,
    earlier: Sequence[Path] = (),
    started_at: float | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """What a run with these options would be like; nothing is written.

    Parameters
    ----------
    options
        Of the run; `out` is not used.
    earlier
        Folders of earlier runs, whose pace says more than a probe.
    started_at
        `time.monotonic()` at the start of the command, by default now.
    say
        Told what is being done, in a few words.

    Returns
    -------
    dict
        As the JSON Schema of ``familyseer tune --dry-run`` describes it.

    Raises
    ------
    UserError
        The model, the target or a folder to start from cannot be used, or the model has nothing
        to tune.
    """
    from familyseer.families import families_json, form_families
    from familyseer.models import load_asked
    from familyseer.subgraphs import subgraphs_of
    from familyseer.target import describe_target, resolve_target

    started_at = time.monotonic() if started_at is None else started_at
    warm_up()
    say("loading")
    target = resolve_target(options.target)
    _check_earlier(options, target)
    model = load_asked(options)
    subgraphs = subgraphs_of(model.mod, target, options.model)
    families = form_families(subgraphs, options.families)
    document = families_json(families, subgraphs, options.families)
    members = [member for family in document["families"] for member in family["subgraphs"]]
    loaded_s = time.monotonic() - started_at
    runs = read_earlier(earlier, str(target), model.digest)
    known = next((run for run in runs if run.same_model and run.untuned_us is not None), None)
    paces = {run.same_model: pace_of_run(run) for run in reversed(runs)}
    roof = _roof(options, target, runs)
    found, probed, why_not = None, None, _cannot_measure(options, target)
    time_s = _probe_s(options.budget_s, loaded_s)
    if why_not is None and time_s < _LEAST_PROBE_S:
        why_not = "a probe would take more than a tenth of the budget"
    if why_not is None and not (paces.get(True) and known):
        from familyseer.forecast._probe import probe

        found = probe(options, subgraphs, families, target, time_s, say)
        probed = pace_of_probe(found, loaded_s, len(subgraphs))
        why_not = "no candidate could be measured in time"
    # the nearest first: this model's own runs, this model now, another model's runs
    pace = paces.get(True) or probed or paces.get(False) or assumed_pace(why_not or "")
    # other load makes measured peaks too low, never too high: once more, and what was seen of it
    roof = _higher(roof, _roof(options, target, ()))
    if roof is not None and found is not None:
        roof = _higher(roof, Roof(found.flops_s, 0.0))
    untuned = _untuned(found, known, members)
    whole_us = untuned["untuned_us"] if untuned["untuned_share"] == 1 else None
    tuned_us = [run.tuned_us for run in runs if run.same_model]
    gain = likely_gain(roofline_us(members, roof), whole_us, *tuned_us)
    return {
        "model": model.name,
        "digest": model.digest,
        "target": describe_target(target),
        "method": options.families,
        "subgraphs": len(subgraphs),
        "families": [
            {
                "name": family["name"],
                "reason": family["reason"],
                "share": family["share"],
                "subgraphs": [member["name"] for member in family["subgraphs"]],
            }
            for family in document["families"]
        ],
        "budget_s": options.budget_s,
        "trial_limit": options.trials,
        **_effort(options, pace, loaded_s, len(subgraphs)),
        **untuned,
        "peak_flops": roof.flops_s if roof else None,
        "peak_bytes_s": roof.bytes_s if roof else None,
        "roofline_us": gain.roofline_us,
        "likely_us": _range(gain.low_us, gain.high_us),
        "likely_speedup": _speedup(untuned, gain.low_us, gain.high_us),
        "earlier_runs": [_told(run) for run in runs],
        "notes": _notes(options),
        "took_s": round(time.monotonic() - started_at, 3),
    }


def _check_earlier(options: TuneOptions, target: Any) -> None:
    """Refuses what the run itself would refuse to start from."""
    if options.warm_start:
        from familyseer.run._warm_start import WarmStart

        any_target = options.warm_start_any_target
        WarmStart(options.warm_start, options.out, target, any_target=any_target)


def _notes(options: TuneOptions) -> list[str]:
    """What the forecast leaves out of account, a sentence each."""
    notes = []
    if options.spamm:
        notes.append("SpAMM is left out of account: it changes subgraphs and takes time itself.")
    if options.resume:
        notes.append("The time that an interrupted run has used is not taken off the budget.")
    if options.tracker is not None:
        notes.append("How many devices the fleet has is not looked at.")
    return notes


def _cannot_measure(options: TuneOptions, target: Any) -> str | None:
    """Why candidates for the target cannot be measured here; None if they can."""
    if options.tracker is not None:
        return "candidates are measured by the devices of a fleet"
    device = device_type(target)
    with suppress(Exception):
        # a kind of device that this TVM was built without has no name to ask for either
        if load_tvm().runtime.device(device, 0).exist:
            return None
    return f"this machine has no {device} device"


def _probe_s(budget_s: float | None, elapsed_s: float) -> float:
    allowed_s = math.inf
    if budget_s is not None:
        # the peaks are measured twice
        allowed_s = BUDGET_SHARE * budget_s - elapsed_s - 2 * _PEAKS_S
    return min(MOST_PROBE_S, allowed_s)


def _roof(options: TuneOptions, target: Any, runs: Sequence[EarlierRun]) -> Roof | None:
    """This machine's peaks, measured now and by earlier runs on it; None where others measure."""
    if device_type(target) != "cpu" or options.tracker is not None:
        return None
    cores = available_cores()
    roof: Roof | None = Roof(*measure_peaks(cores, _PEAKS_S))
    for run in runs:
        machine = run.data.machine
        if machine is None or (machine.cpu, machine.cores) != (cpu_model(), cores):
            continue
        if machine.peak_flops is not None and machine.peak_bytes_s is not None:
            roof = _higher(roof, Roof(machine.peak_flops, machine.peak_bytes_s))
    return roof


def _higher(first: Roof | None, second: Roof | None) -> Roof | None:
    if first is None or second is None:
        return first or second
    return Roof(max(first.flops_s, second.flops_s), max(first.bytes_s, second.bytes_s))


def _untuned(
    found: Any, known: EarlierRun | None, members: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The untuned latency, of an earlier run end to end or the sum of what was probed."""
    if known is not None:
        return {
            "untuned_us": known.untuned_us,
            "untuned_share": 1.0,
            "untuned_basis": "earlier run",
        }
    seconds = found.untuned_s if found is not None else {}
    measured = [member for member in members if member["index"] in seconds]
    if not measured:
        return {"untuned_us": None, "untuned_share": 0.0, "untuned_basis": None}
    total_us = sum(seconds[m["index"]] * m["weight"] for m in measured) * 1e6
    whole = len(measured) == len(members)
    share = 1.0 if whole else min(1.0, sum(member["share"] for member in measured))
    return {"untuned_us": total_us, "untuned_share": share, "untuned_basis": "probe"}


def _effort(options: TuneOptions, pace: Pace, loaded_s: float, subgraphs: int) -> dict[str, Any]:
    """What the budget pays for at a pace, or how long the trials that are asked for take."""
    fixed_s = assumed_fixed_s(loaded_s, subgraphs) if pace.fixed_s is None else pace.fixed_s
    limit = math.inf if options.trials is None else options.trials
    tuning_s = math.inf
    if options.budget_s is not None:
        tuning_s = max(0.0, options.budget_s - fixed_s)
    fewest, most = (min(limit, tuning_s / each_s) for each_s in (pace.high_s, pace.low_s))
    return {
        "pace": {
            "low_s": pace.low_s,
            "high_s": pace.high_s,
            "basis": pace.basis,
            "why": pace.why,
        },
        "fixed_s": fixed_s,
        "tuning_s": None if math.isinf(tuning_s) else tuning_s,
        "candidates": {"low": int(fewest), "high": int(most)},
        "run_s": _range(
            *(
                min(fixed_s + count * seconds, options.budget_s or math.inf)
                for count, seconds in ((most, pace.low_s), (fewest, pace.high_s))
            )
        ),
        "first_pass": _first_pass(pace, tuning_s, limit, subgraphs),
    }


def _first_pass(pace: Pace, tuning_s: float, limit: float, subgraphs: int) -> dict[str, Any]:
    """How many candidates each subgraph gets at first, how long that takes, whether it fits."""
    each = [
        _first_candidates(seconds, tuning_s, limit, subgraphs)
        for seconds in (pace.high_s, pace.low_s)
    ]
    low_s, high_s = (
        count * subgraphs * seconds
        for count, seconds in zip(sorted(each), (pace.low_s, pace.high_s), strict=True)
    )
    if subgraphs > limit or subgraphs * pace.low_s > tuning_s:
        fits = "no"
    else:
        fits = "yes" if subgraphs * pace.high_s <= tuning_s else "perhaps"
    return {
        "fits": fits,
        "candidates_each": {"low": each[0], "high": each[1]},
        "seconds": _range(low_s, min(high_s, tuning_s)),
    }


def _first_candidates(each_s: float, tuning_s: float, limit: float, subgraphs: int) -> int:
    """As `BudgetLoop` gives them: a share of the time and of the trials, at least one."""
    affordable = FIRST_PASS_SHARE * min(tuning_s / each_s, limit) / subgraphs
    return max(1, int(min(FIRST_PASS_TRIALS, affordable)))


def _range(low: float | None, high: float | None) -> dict[str, float] | None:
    if low is None or high is None:
        return None
    return {"low": low, "high": max(low, high)}


def _speedup(
    untuned: dict[str, Any], low_us: float | None, high_us: float | None
) -> dict[str, float] | None:
    """Of the whole model alone: a part of it that was measured says little of the rest."""
    untuned_us = untuned["untuned_us"]
    if untuned_us is None or untuned["untuned_share"] < 1 or not low_us or not high_us:
        return None
    return _range(untuned_us / high_us, untuned_us / low_us)


def _told(run: EarlierRun) -> dict[str, Any]:
    return {
        "dir": str(run.folder),
        "same_model": run.same_model,
        "untuned_us": run.untuned_us,
        "tuned_us": run.tuned_us,
    }
