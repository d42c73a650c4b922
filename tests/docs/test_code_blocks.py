"""Every code block of the pages is run, or checked as far as it can be."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from familyseer.cli.main import main
from tests.docs.commands import check, commands_of, option_known
from tests.docs.conftest import Workshop, call
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, inline_code

# shown as they are: what programs print, and diagrams
# of programs that are not this project's
FOREIGN_OPTIONS = {"--gpus"}
SHOWN = {"text", "csv"}
# commands that take seconds at most, run for real in the workshop
CHEAP = ("bench", "export", "families", "models", "report", "run", "spamm info")


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    known = {"python", "sh", "c", "json", "toml", "yaml"} | SHOWN
    assert [str(b) for b in BLOCKS if b.language not in known] == []


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    ast.parse(block.source, str(block))


def test_json_is_json() -> None:
    for block in of("json"):
        json.loads(block.source)


@pytest.mark.usefixtures("short_budgets")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.page == page and not b.not_run for b in of("python"))],
    ids=lambda page: page.name,
)
def test_python_runs(page: Path, in_workshop: Workshop, tmp_path: Path) -> None:
    """The blocks of a page one after the other, as a reader would type them."""
    library = _kernel_arguments(in_workshop.folder)
    names: dict[str, Any] = {
        **in_workshop.names,
        **library,
        "work_dir": str(tmp_path / "work"),
        "__name__": page.stem,
    }
    blocks = [b for b in of("python") if b.page == page and not b.not_run]
    without_torch = importlib.util.find_spec("torch") is None
    left_out = [b for b in blocks if without_torch and "torch" in b.source]
    for block in (b for b in blocks if b not in left_out):
        # so that a traceback names the page's line
        code = compile("\n" * (block.line - 1) + block.source, str(page), "exec")
        exec(code, names)
    if left_out:
        pytest.skip(f"PyTorch is not installed: {len(left_out)} blocks of {page.name} are not run")


def _kernel_arguments(folder: Path) -> dict[str, Any]:
    """The arrays that the page on kernel libraries takes for granted, by role."""
    from familyseer.kernels import load

    kernel = load(str(folder / "kernels"))["fused_conv2d_add_relu"]
    inputs = [one for one in kernel.arguments if not one.output]
    return {
        name: np.zeros(one.shape, one.dtype)
        for name, one in zip(("data", "weight", "bias"), inputs, strict=True)
    }


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_commands_are_there_and_take_these_arguments(block: Block, in_workshop: Workshop) -> None:
    for words in commands_of(block.source):
        check(words)


def test_cheap_commands_do_what_the_pages_say(in_workshop: Workshop) -> None:
    pages = {ROOT / "README.md", ROOT / "docs" / "start.md", ROOT / "docs" / "spamm.md"}
    done = set()
    for block in of("sh"):
        for words in commands_of(block.source) if block.page in pages else ():
            if words[0] == "familyseer" and " ".join(words[1:]).startswith(CHEAP):
                call(*words[1:])
                done.add(words[1])
    assert {"bench", "run", "report", "spamm"} <= done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_named_in_passing_exist(page: Path) -> None:
    for text in inline_code(page):
        words = text.split()
        if words[0].startswith("--"):
            assert words[0] in FOREIGN_OPTIONS or option_known(words[0].rstrip(",=")), text
        if words[0] == "familyseer" and len(words) > 1 and words[1].rstrip(",").isalpha():
            _check_named(words[1:])


def _check_named(words: list[str]) -> None:
    """A command that prose names exists, with the options shown; arguments may be left out."""
    command: click.Command | None = main
    context = click.Context(main, info_name="familyseer")
    while isinstance(command, click.Group) and words and words[0].isalpha():
        command, words = command.get_command(context, words[0]), words[1:]
    assert command is not None, words
    known = {name for parameter in command.params for name in parameter.opts}
    known |= set(context.help_option_names)
    used = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert used <= known | {"--help", "-h"}, f"{command.name} has no {used - known}"
