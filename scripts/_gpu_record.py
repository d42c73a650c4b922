"""What was found on a GPU host so far: one JSON file, whole after every change.

The program that starts the steps and the step that runs both write it, never at the same time: the
former waits for the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from familyseer.safe_json import load_json, save_json

WHAT = "the results of scripts/gpu_host.py"


class Record:
    """The file of results.

    Parameters
    ----------
    path
        Made with `head` if it is not there.
    head
        What all steps have in common, such as the GPU's name and the settings.

    Raises
    ------
    familyseer.errors.UserError
        The file holds something else.
    """

    def __init__(self, path: Path, head: dict[str, Any] | None = None) -> None:
        self.path = path
        if not path.exists():
            save_json(path, {**(head or {}), "steps": {}})
        self.read()

    def read(self) -> dict[str, Any]:
        """The whole document, as it is now."""
        document: dict[str, Any] = load_json(self.path, what=WHAT)
        return document

    def step(self, name: str) -> dict[str, Any]:
        """What is known of a step: ``status``, ``seconds``, ``error``, ``found``."""
        known: dict[str, Any] = self.read()["steps"].get(name, {})
        return known

    def note(self, name: str, **facts: Any) -> None:
        """Adds facts to a step's."""
        document = self.read()
        known = document["steps"].setdefault(name, {"found": {}})
        known.update(facts)
        save_json(self.path, document)


class Parts:
    """The parts of one step, of which each is kept as soon as it is there.

    Parameters
    ----------
    name
        Of the step.
    """

    def __init__(self, record: Record, name: str) -> None:
        self._record, self._name = record, name

    def found(self) -> dict[str, Any]:
        """The parts that are there."""
        found: dict[str, Any] = self._record.step(self._name).get("found", {})
        return found

    def keep(self, part: str, value: Any) -> None:
        """Writes a part down."""
        self._record.note(self._name, found={**self.found(), part: value})

    def once(
        self, part: str, make: Callable[[], Any], holds: Callable[[Any], bool] = lambda _: True
    ) -> Any:
        """The part, made unless it is there.

        Parameters
        ----------
        holds
            Whether a part of an earlier run is still good, such as one that names a folder.
        """
        found = self.found()
        if part in found and holds(found[part]):
            return found[part]
        value = make()
        self.keep(part, value)
        return value
