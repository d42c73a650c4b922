"""``familyseer bench``: how fast the library of a run is, measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _options as options

_ROWS = 20


@click.command("bench")
@options.out_argument
@options.repeat_option(20)
@click.option(
    "--by-subgraph",
    is_flag=True,
    help="Also time each subgraph inside the model, beside the candidate it was compiled from.",
)
@click.option("--all", "every", is_flag=True, help="Show every subgraph; implies --by-subgraph.")
@options.seed_option
@options.json_option
def command(
    out: Path, repeat: int, by_subgraph: bool, every: bool, seed: int, as_json: bool
) -> None:
    """Measure the library in OUT end to end, on random inputs."""
    from familyseer.cli._output import print_json, print_pairs, results_only
    from familyseer.units import format_latency

    with results_only():
        from familyseer.export.use import bench_library

        measured = bench_library(out, repeat, seed, by_subgraph or every)
    if as_json:
        print_json(measured)
        return
    pairs = [
        ("median", format_latency(measured["median_us"])),
        ("fastest", format_latency(measured["min_us"])),
        ("90% within", format_latency(measured["p90_us"])),
        ("measured", f"{measured['repeats']} times"),
    ]
    untuned_us = measured.get("untuned_us")
    if untuned_us:
        # no ratio: the two were measured at different times
        pairs.append(("untuned", f"{format_latency(untuned_us)}, as the tuning run measured it"))
    print_pairs(pairs)
    if measured["subgraphs"] is not None:
        _print_subgraphs(measured["subgraphs"], every)


def _print_subgraphs(rows: Sequence[Mapping[str, Any]], every: bool) -> None:
    from familyseer.cli._output import print_table
    from familyseer.units import format_count, format_latency, format_percent, format_ratio

    shown = rows if every else rows[:_ROWS]
    cells = []
    for row in shown:
        alone = row["candidate_us"]
        cells.append(
            (
                row["name"],
                str(row["calls"]),
                format_latency(row["us"]),
                format_percent(row["share"]),
                format_latency(alone),
                format_ratio(row["us"] / alone) if alone else "-",
            )
        )
    click.echo()
    headings = ("subgraph", "calls", "in the model", "share", "as candidates", "ratio")
    print_table(headings, cells, align=("left", *("right",) * 5))
    if len(rows) > len(shown):
        share = format_percent(sum(row["share"] for row in rows[len(shown) :]))
        more = format_count(len(rows) - len(shown), "smaller one")
        click.echo(f"and {more}, {share} (--all shows them)")
    total = format_latency(sum(row["us"] for row in rows))
    click.echo(f"sum {total}: timing each call costs a few microseconds of its own")
