"""``familyseer diff``: two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _options as options

_ROWS = 12
_FAILURES = 5
# of two times that are the same
_NOISE = 0.03


@click.command("diff")
@options.out_argument_named("first", "OUT1")
@options.out_argument_named("second", "OUT2")
@click.option(
    "--bench",
    is_flag=True,
    help="Time both libraries here, taking turns, which makes their latencies comparable.",
)
@options.repeat_option(20)
@click.option("--all", "every", is_flag=True, help="Show every subgraph.")
@options.seed_option
@options.json_option
def command(
    first: Path, second: Path, bench: bool, repeat: int, every: bool, seed: int, as_json: bool
) -> None:
    """Compare what two tuning runs left in OUT1 and OUT2.

    Shows the options and the environment that differ, latencies, and the best time of each
    subgraph. The runs may be unfinished or of different models; subgraphs are matched by structure.
    """
    from familyseer.cli._output import print_json, results_only

    with results_only():
        from familyseer.diff import compare_runs

        found = compare_runs(first, second)
        if bench:
            from familyseer.diff import time_both

            found["bench"] = time_both(first, second, repeat=repeat, seed=seed)
    if as_json:
        print_json(found)
    else:
        _print(found, every)


def _print(found: Mapping[str, Any], every: bool) -> None:
    from familyseer.cli._output import print_table

    headings = ("", _short(found["first"]), _short(found["second"]), "second is")
    print_table(headings, _figures(found), align=("left", "right", "right", "right"))
    _print_differences(found)
    _print_subgraphs(found, every)
    _print_failures(found)
    click.echo()
    for line in _remarks(found):
        click.echo(click.wrap_text(line, width=80))


def _short(run: Mapping[str, Any]) -> str:
    return Path(run["dir"]).name or str(run["dir"])


def _figures(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    from familyseer.duration import format_duration
    from familyseer.units import format_latency

    latency, effort, bench = found["latency"], found["effort"], found["bench"]
    rows: list[tuple[str, ...]] = [
        ("model", found["first"]["model"] or "-", found["second"]["model"] or "-", "")
    ]
    if bench:
        times = format_latency(bench["first_us"]), format_latency(bench["second_us"])
        rows.append(("timed in turns", *times, _faster(bench["ratio"])))
    named = (
        ("tuned, each run's", latency["tuned_us"], format_latency),
        ("untuned, each run's", latency["untuned_us"], format_latency),
        (f"sum of {found['estimated_of']} alike", found["estimated_us"], format_latency),
        ("tuning took", effort["elapsed_s"], format_duration),
        ("candidates", effort["trials"], _count),
        ("failed to build", effort["build_errors"], _count),
        ("failed to run", effort["run_errors"], _count),
        ("subgraphs", effort["subgraphs"], _count),
        ("measured", effort["covered"], _count),
    )
    for name, pair, form in named:
        values = [pair["first"], pair["second"]]
        # of other models a ratio would say nothing
        known = all(values) and form is format_latency and found["same_model"] is not False
        ratio = _faster(values[0] / values[1]) if known else ""
        rows.append((name, *("-" if v is None else form(v) for v in values), ratio))
    return rows


def _count(value: float) -> str:
    return f"{value:.0f}"


def _faster(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    if abs(ratio - 1) < _NOISE:
        return "level"
    return f"{ratio:.2f}x faster" if ratio > 1 else f"{1 / ratio:.2f}x slower"


def _print_differences(found: Mapping[str, Any]) -> None:
    from familyseer.cli._output import print_table

    rows = [
        (name, _value(pair["first"]), _value(pair["second"]))
        for where in ("options", "environment")
        for name, pair in found[where].items()
    ]
    method = found["families"]["method"]
    if method["first"] != method["second"]:
        rows.append(("method of families", _value(method["first"]), _value(method["second"])))
    if rows:
        click.echo()
        print_table(("differs", _short(found["first"]), _short(found["second"])), rows)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _print_subgraphs(found: Mapping[str, Any], every: bool) -> None:
    from familyseer.cli._output import print_table
    from familyseer.units import format_count, format_latency

    rows = found["subgraphs"]
    if not rows:
        return
    shown = rows if every else rows[:_ROWS]
    cells = [
        (
            row["name"] + ("" if row["matched_by"] == "hash" else " (alike)"),
            format_latency(row["best_us"]["first"]),
            format_latency(row["best_us"]["second"]),
            _faster(row["ratio"]),
            f"{_value(row['trials']['first'])}, {_value(row['trials']['second'])}",
        )
        for row in shown
    ]
    click.echo()
    headings = ("subgraph", _short(found["first"]), _short(found["second"]), "second is")
    print_table((*headings, "candidates"), cells, align=("left", *("right",) * 4))
    if len(rows) > len(shown):
        more = format_count(len(rows) - len(shown), "smaller subgraph")
        click.echo(f"and {more} (--all shows them)")


def _print_failures(found: Mapping[str, Any]) -> None:
    from familyseer.cli._output import print_table

    rows = [
        (one["phase"], str(one["first"]), str(one["second"]), one["reason"])
        for one in found["failures"][:_FAILURES]
    ]
    if rows:
        click.echo()
        headings = ("failed", _short(found["first"]), _short(found["second"]), "why")
        print_table(headings, rows, align=("left", "right", "right"))


def _remarks(found: Mapping[str, Any]) -> list[str]:
    from familyseer.units import format_count

    lines = []
    for side in ("first", "second"):
        only = found[f"only_{side}"]
        if only:
            lines.append(f"{format_count(len(only), 'subgraph')} in {found[side]['dir']} alone.")
        if not found[side]["finished"]:
            lines.append(f"{found[side]['dir']}: the run is not finished.")
    if found["same_model"] is False:
        lines.append("The models differ: only subgraphs that are the same can be compared.")
    if found["same_target"] is False:
        lines.append("The targets differ: their times are those of different machines or code.")
    if found["bench"] is None:
        lines.append(
            "Latencies are each run's own, measured at different times: machines drift, and "
            "--bench times both libraries here in turns."
        )
    return lines
