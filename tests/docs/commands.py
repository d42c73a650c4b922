"""Command lines of the pages: what they call is there, and takes the arguments shown."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
import shlex
from pathlib import Path

import click

from familyseer.cli.main import main
from tests.docs.pages import ROOT

# what comes with the system, or was built by the line before
_FOREIGN = {"cd", "cc", "./example", "export", "git", "nvidia-smi", "compute-sanitizer"}
_INSTALLED = {"mkdocs", "ruff", "mypy", "pytest"}


def commands_of(source: str) -> list[list[str]]:
    """The command lines of a shell block, split into words, without where their output goes."""
    joined = source.replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words[: words.index(">")] if ">" in words else words for words in lines if words]


def check(words: list[str]) -> None:
    """AssertionError or click's error where a command line cannot be right."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if program == "familyseer":
        parse(main, arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets), f"make has no {arguments}"
    elif program == "pip":
        _check_pip(arguments)
    elif program == "python":
        _check_python(arguments)
    elif program in _INSTALLED:
        assert importlib.util.find_spec(program), f"{program} is no development dependency"
    else:
        assert program in _FOREIGN, f"{program}: a command that tests/docs knows nothing of"


def parse(
    command: click.Command, arguments: list[str], parent: click.Context | None = None
) -> None:
    """Has click parse arguments, of subcommands too, without running anything."""
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        context = click.Context(command, parent, command.name, **command.context_settings)
        _, subcommand, rest = command.resolve_command(context, arguments)
        assert subcommand is not None
        parse(subcommand, rest, context)
        return
    # --help and --version end the program
    with contextlib.suppress(click.exceptions.Exit):
        command.make_context(command.name, list(arguments), parent=parent)


def option_known(option: str) -> bool:
    """Whether any command or script of the project, or pip, has an option."""
    sources = [*(ROOT / "familyseer").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    return any(f'"{option}' in path.read_text("utf-8") for path in sources)


def _check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install", arguments
    extras = set(importlib.metadata.metadata("familyseer").get_all("Provides-Extra") or ())
    for argument in arguments[1:]:
        name, _, asked = argument.partition("[")
        if name in (".", "familyseer") and asked:
            assert set(asked.rstrip("]").split(",")) <= extras, f"no such extra: {argument}"


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None, f"no module {arguments[1]}"
        path, rest = Path(spec.origin or ROOT), arguments[2:]
        if not path.is_relative_to(ROOT) or arguments[1] == "pytest" or "/.venv/" in str(path):
            return
    else:
        path, rest = ROOT / arguments[0], arguments[1:]
        assert path.is_file(), f"no file {arguments[0]}"
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        assert f'"{option}' in path.read_text("utf-8"), f"{path.name} has no {option}"
