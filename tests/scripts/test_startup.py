"""``scripts/startup.py``: every command is run, and one that breaks its promise is told."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(importlib.import_module("_results"), "RESULTS", tmp_path)
    return importlib.import_module("startup")


def test_commands_are_timed_and_kept(
    startup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = {"nothing": startup.Command(("-c", ""), 60.0), "other": startup.Command(("-c", ""))}
    monkeypatch.setattr(startup, "COMMANDS", commands)
    done = CliRunner().invoke(startup.main, ["--rounds", "3", "--save", "kept"])
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "kept.json").read_text())["commands"]
    assert list(kept) == ["nothing", "other"]
    assert 0 < kept["nothing"]["least_s"] <= kept["nothing"]["median_s"]


def test_a_command_beyond_its_limit_is_a_failure(
    startup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "COMMANDS", {"slow": startup.Command(("-c", ""), 1e-6)})
    done = CliRunner().invoke(startup.main, ["--rounds", "1"])
    assert done.exit_code == 1
    assert "slower than promised: slow" in done.output


def test_what_is_promised_can_be_run(startup: Any) -> None:
    promised = {title for title, command in startup.COMMANDS.items() if command.limit_s is not None}
    assert {"familyseer --help", "familyseer families squeezenet"} <= promised
    assert startup.seconds(startup.COMMANDS["familyseer --help"]) > 0
