"""What `familyseer tune` says when it is done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import click

from familyseer.cli._output import print_pairs
from familyseer.duration import format_duration
from familyseer.units import format_count, format_latency

_NAMES_SHOWN = 3
# a ratio nearer to 1 would read as 1.00x
_LEVEL = 0.005
_STOPPED_BY = {
    "budget": "the budget",
    "trials": "the number of trials",
    "interrupt": "an interrupt",
    "space exhausted": "the end of the search space",
    "cannot write": "a folder that cannot be written any more",
    "fleet gone": "the loss of every device",
    "GPUs gone": "the loss of every GPU",
}


def print_ending(out: Path, summary: Mapping[str, Any]) -> None:
    """Prints what came of a run: latencies, effort, and how to use the library.

    Parameters
    ----------
    out
        The run's folder.
    summary
        What ``summary.json`` holds; a latency that was not measured is None or missing.
    """
    print_pairs(
        [
            ("untuned", format_latency(summary.get("untuned_us"))),
            ("tuned", _tuned(summary)),
            ("trials", _trials(summary)),
            ("time", _time(summary)),
            ("library", str(out / "model.so")),
        ]
    )
    if summary.get("spamm"):
        click.echo()
        print_spamm(summary["spamm"])
    click.echo()
    click.echo(f"Run it:      familyseer run {shlex.quote(str(out))} -i in.npz -o out.npz")
    click.echo(f"Measure it:  familyseer bench {shlex.quote(str(out))}")


def print_spamm(spamm: Mapping[str, Any]) -> None:
    """Says which layers SpAMM took over and what that costs, or why nothing changed.

    Parameters
    ----------
    spamm
        What ``summary.json`` holds under that name.
    """
    layers = spamm.get("layers") or []
    if not layers:
        click.echo(f"SpAMM changed nothing: {spamm.get('note')}")
        return
    error = spamm.get("max_rel_error")
    click.echo(
        f"SpAMM took over {format_count(len(layers), 'layer')}; the model is off by {error:.2g} "
        f"of the dense one, {spamm.get('allowed'):.2g} allowed"
    )
    for layer in layers:
        _, m, k, n = layer["shape"]
        ratio = layer.get("valid_ratio", layer["stored_ratio"])
        click.echo(
            f"  {layer['name']}  {layer['op']} {m} x {k} x {n}  valid ratio {ratio:.3f}  "
            f"tau {layer['tau']:.3g}"
        )


def print_warnings(summary: Mapping[str, Any], stream: TextIO) -> None:
    """Says what is not as it should be: subgraphs without their best schedule, what went unchecked.

    Parameters
    ----------
    summary
        What ``summary.json`` holds; what is missing is not warned of.
    stream
        Where to say it.
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in (summary.get("fell_back") or {}).items():
        by_reason.setdefault(str(reason), []).append(str(name))
    for reason, names in by_reason.items():
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = len(names) - _NAMES_SHOWN
        shown += f" and {more} more" if more > 0 else ""
        click.echo(
            f"familyseer: warning: {format_count(len(names), 'subgraph')} fell back: "
            f"{reason} ({shown})",
            file=stream,
        )
    for wrong in summary.get("quarantined") or []:
        kept = f"; see {wrong['file']}" if wrong.get("file") else ""
        click.echo(
            f"familyseer: warning: a schedule of {wrong.get('subgraph')} is never used: "
            f"{wrong.get('reason')}{kept}",
            file=stream,
        )
    if summary.get("not_compared"):
        click.echo(
            "familyseer: warning: the library was not compared with the untuned one: "
            f"{summary['not_compared']}",
            file=stream,
        )
    for text in (summary.get("fleet") or {}).get("warnings", []):
        click.echo(f"familyseer: warning: {text}", file=stream)


def _tuned(summary: Mapping[str, Any]) -> str:
    tuned_us, speedup = summary.get("tuned_us"), summary.get("speedup")
    text = format_latency(tuned_us)
    if not tuned_us or not speedup:
        return text
    if abs(speedup - 1) < _LEVEL:
        return f"{text}  (as fast as untuned)"
    if speedup >= 1:
        return f"{text}  ({speedup:.2f}x faster)"
    return f"{text}  ({1 / speedup:.2f}x slower)"


def _trials(summary: Mapping[str, Any]) -> str:
    trials = int(summary.get("trials") or 0)
    failed = int(summary.get("build_errors") or 0) + int(summary.get("run_errors") or 0)
    return f"{trials} ({failed} failed)" if failed else str(trials)


def _time(summary: Mapping[str, Any]) -> str:
    text = format_duration(float(summary.get("elapsed_s") or 0.0))
    reason = summary.get("stopped_by")
    return f"{text}, ended by {_STOPPED_BY.get(reason, reason)}" if reason else text
