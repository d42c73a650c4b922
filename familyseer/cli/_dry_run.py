"""``familyseer tune --dry-run``: what the run would be like."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from familyseer.cli._clock import STARTED_AT
from familyseer.cli._output import (
    native_messages_to,
    print_json,
    print_pairs,
    print_table,
    results_only,
)
from familyseer.duration import format_duration
from familyseer.options import TuneOptions
from familyseer.progress import is_live
from familyseer.units import format_count, format_latency, format_percent, format_ratio

# a speed-up below it reads as 1.00x
_LEVEL = 1.005
_FITS = {
    "yes": "fits",
    "perhaps": "may not fit",
    "no": "does not fit: some subgraphs will stay untuned",
}


def dry_run(asked: TuneOptions, earlier: Sequence[Path], *, quiet: bool, as_json: bool) -> None:
    """Forecasts a run and prints that.

    Parameters
    ----------
    earlier
        Folders whose runs say how fast another one will be, beside those of ``--warm-start``.
    """
    shown = is_live(sys.stderr) and not quiet and not as_json

    def say(text: str) -> None:
        if shown:
            click.echo(f"\r\033[K{text}", nl=False, file=stderr)

    with native_messages_to(Path(os.devnull)) as stderr, results_only():
        say("loading")
        from familyseer.forecast import forecast

        told = forecast(
            asked, earlier=[*earlier, *asked.warm_start], started_at=STARTED_AT, say=say
        )
        if shown:
            click.echo("\r\033[K", nl=False, file=stderr)
    if as_json:
        print_json(told)
    else:
        _print(told)


def _print(told: Mapping[str, Any]) -> None:
    families = told["families"]
    click.echo(
        f"{told['model']} on {told['target']}: {format_count(told['subgraphs'], 'subgraph')} in "
        f"{format_count(len(families), 'family', 'families')}"
    )
    click.echo()
    rows = [
        (one["name"], str(len(one["subgraphs"])), format_percent(one["share"])) for one in families
    ]
    headings = ("family", "subgraphs", "share of flops")
    print_table(headings, rows, align=("left", "right", "right"))
    click.echo()
    print_pairs([*_effort(told), *_gain(told)])
    click.echo()
    for sentence in _rests_on(told):
        click.echo(click.wrap_text(sentence, width=80))


def _effort(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    pace, first = told["pace"], told["first_pass"]
    budget = [] if told["budget_s"] is None else [format_duration(told["budget_s"])]
    budget += [] if told["trial_limit"] is None else [f"{told['trial_limit']} candidates"]
    candidates = (
        f"{_between(told['candidates'], str)}, {pace['low_s']:.2g} to {pace['high_s']:.2g} s each"
    )
    if told["tuning_s"] == 0:
        candidates = "none: loading, compiling and checking take all of the budget"
    each = _between(first["candidates_each"], str)
    text = _FITS[first["fits"]]
    if first["fits"] != "no":
        text += f": {each} candidates each, {_between(first['seconds'], _rounded)}"
    return [
        ("budget", " or ".join(budget)),
        (
            "time",
            f"{_between(told['run_s'], _rounded)}, {_rounded(told['fixed_s'])} of it not tuning",
        ),
        ("candidates", candidates),
        ("first pass", text),
    ]


def _gain(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    untuned = format_latency(told["untuned_us"])
    if told["untuned_share"] and told["untuned_share"] < 1:
        untuned = f"above {untuned} (of {format_percent(told['untuned_share'])} of the operations)"
    pairs = [
        ("untuned", untuned),
        *(
            ("before", f"{format_latency(run['tuned_us'])}, in {run['dir']}")
            for run in told["earlier_runs"]
            if run["same_model"] and run["tuned_us"] is not None
        ),
    ]
    if told["likely_us"] is None:
        why = "the peaks of the device are not known"
        if told["peak_flops"] is not None:
            why = "the machine is too busy for its peaks to be measured"
        return [*pairs, ("tuned", f"no telling: {why}")]
    likely = _between(told["likely_us"], format_latency)
    if told["likely_speedup"] is not None and told["likely_speedup"]["high"] >= _LEVEL:
        likely += f", {_between(told['likely_speedup'], _times)} faster"
    return [
        *pairs,
        ("tuned", f"{likely}: an estimate"),
        ("at best", f"{format_latency(told['roofline_us'])}: the roofline of this machine"),
    ]


def _rests_on(told: Mapping[str, Any]) -> list[str]:
    why = told["pace"]["why"]
    lines = [f"The pace rests on {why}."]
    if told["pace"]["basis"] == "assumed":
        lines = [f"The pace is a guess. {why[0].upper()}{why[1:]}."]
    if told["untuned_basis"] == "probe":
        lines.append("Untuned is the sum of subgraphs measured one by one.")
    if told["roofline_us"] is not None:
        flops, moved = told["peak_flops"] / 1e9, told["peak_bytes_s"] / 1e9
        lines.append(
            f"The roofline is at {flops:.3g} GFLOP/s and {moved:.3g} GB/s, measured just now; "
            "other load makes these too low, and what stays in caches may beat them. The estimate "
            "is what other networks reached of theirs."
        )
    lines += told["notes"]
    lines.append(f"Nothing was tuned or written. This took {_rounded(told['took_s'])}.")
    return lines


def _rounded(seconds: float) -> str:
    return format_duration(round(seconds))


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 10 else format_ratio(ratio)


def _between(bounds: Mapping[str, Any] | None, form: Any) -> str:
    """A range, or the one value that both of its ends read as."""
    if bounds is None:
        return "-"
    low, high = form(bounds["low"]), form(bounds["high"])
    return str(low) if low == high else f"{low} to {high}"
