"""What provokes each message of the troubleshooting page, by the anchor of its entry.

A provocation is a generator: it does what goes wrong, in a folder of its own, and yields each
message that came of it. What needs a state of the machine that a test cannot have (a GPU, a full
disk) is provoked at the function that raises it, with the condition made there.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from familyseer.cli.main import main
from familyseer.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where a provocation happens: a folder of its own, and changes that are undone after it."""

    folder: Path
    change: pytest.MonkeyPatch

    def without_torch(self) -> None:
        """As where PyTorch is not installed."""
        find = importlib.util.find_spec

        def others(name: str, *package: Any) -> Any:
            return None if name == "torch" else find(name, *package)

        self.change.setattr(importlib.util, "find_spec", others)


Provocation = Callable[[Place], Iterator[str]]
PROVOCATIONS: dict[str, list[Provocation]] = defaultdict(list)


def provokes(anchor: str) -> Callable[[Provocation], Provocation]:
    """Enters a provocation for an entry of the page."""

    def enter(provocation: Provocation) -> Provocation:
        PROVOCATIONS[anchor].append(provocation)
        return provocation

    return enter


def refused(
    function: Callable[..., Any],
    *args: Any,
    error: type[Exception] = UserError,
    **options: Any,
) -> str:
    """The message of the error that a call raises."""
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def command(*args: object, code: int = 2) -> str:
    """The one line that a command says before it exits with a code."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    # click ends the line that Ctrl-C was typed on
    (line,) = filter(None, result.stderr.splitlines())
    assert line.startswith("familyseer: ")
    return line.removeprefix("familyseer: ")
