"""Completion, asked as a shell asks: by an environment variable, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from familyseer.cli._completion import TARGETS
from familyseer.cli.main import main
from tests.familyseer.cli.processes import HEAVY, top_level_modules


def offered(*words: str) -> list[tuple[str, str]]:
    """Kind and value of what is offered for the last word."""
    complete = ShellComplete(main, {}, "familyseer", "_FAMILYSEER_COMPLETE")
    return [(one.type, one.value) for one in complete.get_completions(list(words[:-1]), words[-1])]


def values(*words: str) -> list[str]:
    return [value for kind, value in offered(*words) if kind == "plain"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_asks_is_told_and_nothing_heavy_is_imported(shell: str) -> None:
    asked = {"_FAMILYSEER_COMPLETE": f"{shell}_complete", "COMP_CWORD": "2"}
    asked["COMP_WORDS"] = "familyseer tune squ"
    if shell == "fish":
        asked["COMP_CWORD"] = "squ"
    done = subprocess.run(
        [sys.executable, "-m", "familyseer.cli"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "squeezenet" in done.stdout.replace(",", "\n").splitlines()
    assert not HEAVY & top_level_modules(**asked)


def test_commands_and_the_values_of_options_are_offered() -> None:
    assert values("d") == ["diff", "doctor"]
    assert values("spamm", "") == ["bench", "info", "tune"]
    assert values("tune", "--families", "") == ["op", "sequence", "graph", "none"]
    assert values("tune", "--target", "nvidia/nvidia-h") == [
        "nvidia/nvidia-h200",
        "nvidia/nvidia-h100",
    ]
    assert "--dry-run" in values("tune", "--d")
    assert values("compare", "mlp", "--tuners", "random,fam")[0] == "random,familyseer"
    assert "random,random" not in values("compare", "mlp", "--tuners", "random,r")


def test_a_model_is_a_network_or_a_file_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    for name in ("mine.onnx", "mine.pt2", "mine.txt", "nets/deep.onnx"):
        (tmp_path / name).touch()
    assert values("tune", "mi") == ["mine.onnx", "mine.pt2"]
    assert values("tune", "nets/d") == ["nets/deep.onnx"]
    assert "mlp" in values("families", "m")
    # folders are the shell's own to complete, and it must be told so before anything else
    assert offered("tune", "ne")[0] == ("dir", "ne")
    assert values("tune", "no/such/folder/") == []


def test_what_runs_left_is_looked_for_among_folders() -> None:
    for words in (("bench", "o"), ("diff", "a", "o"), ("tune", "mlp", "-o", "o")):
        assert offered(*words) == [("dir", "o")]


def test_every_target_that_is_offered_is_one() -> None:
    from familyseer.target import resolve_target

    for name in set(TARGETS) - {"cuda"}:
        resolve_target(name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own(shell: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_FAMILYSEER_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; the script was not tried")
    script = tmp_path / "script"
    script.write_text(result.stdout)
    subprocess.run([shell, "-n", str(script)], check=True, timeout=30)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    command = tmp_path / "familyseer"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -m familyseer.cli\n")
    command.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(main, ["completion", "bash"]).stdout)
    asked = (
        f". {script}\nCOMP_WORDS=(familyseer tune --families '') COMP_CWORD=3\n"
        '_familyseer_completion familyseer\necho "${COMPREPLY[*]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", asked],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout.split() == ["op", "sequence", "graph", "none"]
