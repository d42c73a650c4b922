"""``familyseer completion``: the script that makes a shell complete our commands."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from familyseer.cli import _options as options

_VARIABLE = "_FAMILYSEER_COMPLETE"
_INSTALL = {
    "bash": "familyseer completion bash > ~/.local/share/bash-completion/completions/familyseer",
    "zsh": "familyseer completion zsh > FOLDER/_familyseer, with FOLDER one of $fpath before "
    "compinit is called",
    "fish": "familyseer completion fish > ~/.config/fish/completions/familyseer.fish",
}


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(tuple(_INSTALL)))
@options.json_option
@click.pass_context
def command(ctx: click.Context, /, shell: str, as_json: bool) -> None:
    """Print the completion script of bash, zsh or fish.

    \b
    bash  familyseer completion bash >
            ~/.local/share/bash-completion/completions/familyseer
    zsh   familyseer completion zsh > FOLDER/_familyseer
            with FOLDER one of $fpath before compinit is called
    fish  familyseer completion fish >
            ~/.config/fish/completions/familyseer.fish

    New shells complete networks, model files, targets, options and their values.
    """
    from familyseer.cli._output import print_json

    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, "familyseer", _VARIABLE).source()
    if as_json:
        print_json({"shell": shell, "script": script, "install": _INSTALL[shell]})
        return
    click.echo(script)
    if sys.stdout.isatty():
        click.echo(f"To install it: {_INSTALL[shell]}", err=True)
