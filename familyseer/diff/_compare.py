"""What two runs left, side by side; whatever one of them lacks is null, never guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from familyseer.diff._subgraphs import match_subgraphs
from familyseer.records import Failure
from familyseer.report import _facts as facts
from familyseer.report._read import RunData, read_run

# of a summary that has its options side by side with the rest
_OLD_OPTIONS = (
    "seed",
    "families",
    "budget_s",
    "trial_limit",
    "without",
    # of the run of a product, and what it found
    "shape",
    "dtype",
    "block",
    "wanted_valid_ratio",
    "config",
)
# where a run was made, and not how
_NOT_OPTIONS = ("model", "out", "resume")
_LATENCIES = ("untuned_us", "tuned_us", "speedup")
_EFFORT = (
    "trials",
    "build_errors",
    "run_errors",
    "elapsed_s",
    "subgraphs",
    "covered",
    "covered_at_s",
    "max_rel_error",
)
# a limit in seconds that differs makes no other reason of a failure
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")

Pair = dict[str, Any]


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """Compares what is in two folders of tuning runs, finished or not, of one model or of two.

    Subgraphs are the same where their structural hashes are, whatever the models; what is left is
    matched by name and operations, and is not the same computation then.

    Returns
    -------
    dict
        As the JSON Schema of ``familyseer diff`` describes it: latencies in microseconds, times in
        seconds, and a pair ``first``, ``second`` for each figure.

    Raises
    ------
    UserError
        One of them is no folder, or holds nothing of a tuning run.
    """
    runs = read_run(first), read_run(second)
    told = [{**run.state, **run.summary} for run in runs]
    return {
        "first": _described(first, told[0]),
        "second": _described(second, told[1]),
        "same_model": _same(told, "digest"),
        "same_target": _same(told, "target"),
        "options": _differences(_options(runs[0].summary), _options(runs[1].summary)),
        "environment": _differences(_environment(runs[0]), _environment(runs[1])),
        "latency": _figures(told, _LATENCIES, facts.positive),
        "bench": None,
        "effort": _figures(told, _EFFORT, facts.number),
        "failures": _failures(runs[0], runs[1]),
        "families": {
            "method": _pair(runs, lambda run: run.method or None),
            **_only({f["name"] for f in runs[0].families}, {f["name"] for f in runs[1].families}),
        },
        **match_subgraphs(runs[0], runs[1]),
        "missing": _pair(runs, lambda run: run.missing),
    }


def _pair(both: Any, of: Callable[[Any], Any]) -> Pair:
    return {"first": of(both[0]), "second": of(both[1])}


def _figures(told: Any, names: tuple[str, ...], read: Callable[[Any, str], Any]) -> dict[str, Pair]:
    return {name: {"first": read(told[0], name), "second": read(told[1], name)} for name in names}


def _described(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dir": str(folder),
        "model": facts.text(told, "model") or None,
        "target": facts.text(told, "target") or None,
        "finished": "stopped_by" in told,
        "stopped_by": facts.text(told, "stopped_by") or None,
    }


def _same(told: list[dict[str, Any]], name: str) -> bool | None:
    """None where one of the two does not say."""
    values = [facts.text(one, name) for one in told]
    return values[0] == values[1] if all(values) else None


def _options(summary: Mapping[str, Any]) -> dict[str, Any]:
    asked = facts.mapping(summary, "options")
    if not asked:
        return {name: summary[name] for name in _OLD_OPTIONS if name in summary}
    return {name: value for name, value in asked.items() if name not in _NOT_OPTIONS}


def _environment(run: RunData) -> dict[str, Any]:
    found: dict[str, Any] = dict(facts.mapping(run.summary, "versions"))
    if run.machine is not None:
        found.update(asdict(run.machine))
    # measured anew in each run, and never twice the same
    return {name: value for name, value in found.items() if not name.startswith("peak_")}


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Pair]:
    """What is not the same, by name; null where one side does not have it."""
    return {
        name: {"first": first.get(name), "second": second.get(name)}
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    }


def _failures(first: RunData, second: RunData) -> list[dict[str, Any]]:
    """How often what failed, the most frequent first; # stands for numbers in the reason."""
    counts = [Counter(map(_kind, run.failures)) for run in (first, second)]
    kinds = sorted(
        counts[0] | counts[1], key=lambda kind: (-counts[0][kind] - counts[1][kind], kind)
    )
    return [
        {
            "phase": facts.shown(phase, facts.SHORT),
            "reason": facts.shown(reason),
            "first": counts[0][phase, reason],
            "second": counts[1][phase, reason],
        }
        for phase, reason in kinds
    ]


def _kind(failure: Failure) -> tuple[str, str]:
    lines = failure.reason.strip().splitlines() or ["no reason given"]
    return failure.phase, _NUMBER.sub("#", lines[0])


def _only(first: set[str], second: set[str]) -> dict[str, list[str]]:
    return {"only_first": sorted(first - second), "only_second": sorted(second - first)}
