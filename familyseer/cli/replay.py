"""``familyseer replay``: the decisions of a run, made again from its records."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _options as options


@click.command("replay")
@options.out_argument
@options.json_option
def command(out: Path, as_json: bool) -> int:
    """Make a run's decisions again and say where they differ.

    Nothing is built or measured: the search is given the seed, the measured times and the clock of
    each run. Exits with code 1 if a decision comes out otherwise.
    """
    from familyseer.cli._output import native_messages_to, print_json, results_only
    from familyseer.progress import is_live

    live = is_live(sys.stderr)
    with native_messages_to(Path(os.devnull)), results_only():
        from familyseer.run import replay

        replayed = replay(out, _show if live else lambda _run, _round: None)
    if live:
        click.echo("\r\033[K", nl=False, err=True)
    same = all(one.difference is None for one in replayed)
    if as_json:
        print_json({"same": same, "runs": [asdict(one) for one in replayed]})
    else:
        for one in replayed:
            _print(one)
    return 0 if same else 1


def _show(run: int, round_: int) -> None:
    click.echo(f"\rrun {run}, round {round_}", nl=False, err=True)


def _print(one: Any) -> None:
    ended = f"ended by {one.stopped_by}" if one.stopped_by else "killed"
    if one.difference is None:
        verdict = f"all {one.rounds} rounds decided the same ({one.trials} trials, {ended})"
    else:
        verdict = f"{one.rounds} rounds decided the same, then {one.difference}"
    click.echo(f"run {one.number}: {verdict}")
    for package, change in one.versions.items():
        click.echo(f"  {package}: {change}")
