"""The command ``familyseer``: its options and the list of its commands."""

from __future__ import annotations

import click

from familyseer.cli._group import CommandGroup

_COMMANDS = (
    "tune",
    "families",
    "models",
    "run",
    "bench",
    "export",
    "replay",
    "compare",
    "report",
    "diff",
    "spamm",
    "doctor",
    "schema",
    "completion",
)


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    import importlib.metadata

    click.echo(f"familyseer {importlib.metadata.version('familyseer')}")
    ctx.exit()


@click.group(
    "familyseer",
    cls=CommandGroup,
    lazy=_COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Tune models for Apache TVM by families of subgraphs, inside a wall-clock budget."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


if __name__ == "__main__":
    main()
