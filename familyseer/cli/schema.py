"""``familyseer schema``: what each command's ``--json`` prints, as JSON Schema."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import click

from familyseer.cli import _options as options

_FOLDER = importlib.resources.files("familyseer") / "schemas"


def names() -> list[str]:
    """What the schemas are called: commands, with dashes for spaces."""
    return sorted(
        one.name.removesuffix(".json") for one in _FOLDER.iterdir() if one.name.endswith(".json")
    )


def load(name: str) -> dict[str, Any]:
    """A schema by its name."""
    found: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return found


@click.command("schema")
@click.argument("command", metavar="[COMMAND]", required=False, type=click.Choice(names()))
@options.json_option
def command(command: str | None, as_json: bool) -> None:
    """Print the JSON Schema of what COMMAND prints with --json.

    Without COMMAND, list them. Dashes stand for spaces: spamm-tune, tune-dry-run.
    """
    from familyseer.cli._output import print_json, print_table

    if command is not None:
        print_json(load(command))
    elif as_json:
        print_json({"schemas": {name: load(name) for name in names()}})
    else:
        rows = [(name, str(load(name)["description"])) for name in names()]
        print_table(("schema", "what it describes"), rows)
