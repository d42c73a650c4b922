"""``familyseer doctor``: what this machine has, what is missing, and what that costs."""

from __future__ import annotations

import click

from familyseer.cli import _options as options


@click.command("doctor")
@options.json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check what this machine has and lacks.

    That is versions, CPU, compiler, CUDA and optional parts. Exits with 0 when everything that
    FamilySeer requires is there, with 1 otherwise.
    """
    from familyseer.cli._output import print_json, results_only
    from familyseer.doctor import diagnose

    with results_only():
        report = diagnose()
    if as_json:
        print_json(report.to_json())
    else:
        for line in report.lines():
            click.echo(line)
    ctx.exit(0 if report.healthy else 1)
