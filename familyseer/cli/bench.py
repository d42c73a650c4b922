"""``familyseer bench``: how fast the library of a run is, measured again."""

from __future__ import annotations

from pathlib import Path

import click

from familyseer.cli import _options as options


@click.command("bench")
@options.out_argument
@options.repeat_option(20)
@options.seed_option
@options.json_option
def command(out: Path, repeat: int, seed: int, as_json: bool) -> None:
    """Measure the library in OUT end to end, on random inputs."""
    from familyseer.cli._output import print_json, print_pairs, results_only
    from familyseer.units import format_latency

    with results_only():
        from familyseer.export.use import bench_library

        measured = bench_library(out, repeat, seed)
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
