"""``familyseer spamm``: products of near-sparse matrices that skip what is too small to matter."""

from __future__ import annotations

import click

from familyseer.cli._spamm_bench import command as bench
from familyseer.cli._spamm_info import command as info
from familyseer.cli._spamm_tune import command as tune


@click.group("spamm", commands=[info, bench, tune], invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Multiply near-sparse matrices faster, by SpAMM."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
