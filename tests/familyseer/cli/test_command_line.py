"""The command line as a whole: help, exit codes, streams; in real processes where that matters."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from familyseer.cli.main import main
from tests.familyseer.cli.processes import HEAVY, top_level_modules

GROUPS = ["spamm"]
COMMANDS = [
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
]
COMMANDS += [*GROUPS, "doctor", "schema", "completion"]


def familyseer(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "familyseer.cli", *args]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, timeout=120, **kwargs
    )


@pytest.mark.parametrize(
    "args", [["--help"], ["tune", "--help"], ["--version"], ["models"], ["schema"]]
)
def test_help_and_lists_import_nothing_heavy(args: list[str]) -> None:
    assert not HEAVY & top_level_modules(*args)


def test_a_command_loads_tvm_without_pytorch_which_it_has_no_use_for() -> None:
    loaded = top_level_modules("families", "mlp")
    assert "tvm" in loaded
    assert "torch" not in loaded


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    listed = [line.split() for line in result.stdout.partition("Commands:")[2].splitlines() if line]
    assert [words[0] for words in listed] == COMMANDS
    assert not any("..." in word for words in listed for word in words)


def test_without_a_command_the_help_is_shown() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: familyseer ")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in GROUPS])
def test_every_command_has_json_and_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_the_methods_of_the_help_are_those_of_the_families() -> None:
    from inspect import signature

    from familyseer.cli._options import FAMILY_METHODS
    from familyseer.families import METHODS, form_families
    from familyseer.options import TuneOptions

    assert FAMILY_METHODS == METHODS
    assert FAMILY_METHODS[0] == signature(form_families).parameters["method"].default
    assert TuneOptions("m", Path("out")).families == FAMILY_METHODS[0]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["bogus"], "No such command 'bogus'. (see familyseer --help)"),
        (["tune"], "Missing argument 'MODEL'. (see familyseer tune --help)"),
        (["tune", "mlp"], "Missing option '-o' / '--out'. (see familyseer tune --help)"),
        (["bench", "nowhere"], "nowhere: no finished tuning run here"),
        (["run", "nowhere", "-i", "a.npz", "-o", "b.npz"], "nowhere: no finished tuning run here"),
        (
            ["compare", "mlp", "--budget", "1m", "--tuners", "fast"],
            "--tuners fast: tuner fast: expected one of familyseer",
        ),
        (["compare", "mlp", "--budget", "1m", "--tuners", "random,random"], "each once"),
        (["compare", "mlp"], "Missing option '--budget'"),
        (["models", "--save", "alexnett", "a.onnx"], "alexnett: no such model"),
    ],
)
def test_wrong_use_ends_a_process_with_2_and_one_line(
    args: list[str], line: str, tmp_path: Path
) -> None:
    done = familyseer(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("familyseer: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_fault_ends_a_process_with_1_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "familyseer_fault.py").write_text(
        "import familyseer.models.zoo as zoo\n"
        "def names(): raise ZeroDivisionError('by accident')\n"
        "zoo.names = names\n"
        "from familyseer.cli.main import main\n"
        "main(['models'])\n"
    )
    env = {**os.environ, "FAMILYSEER_DEBUG": ""}
    done = subprocess.run(
        [sys.executable, "familyseer_fault.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "familyseer: ZeroDivisionError: by accident (FAMILYSEER_DEBUG=1 shows the traceback)\n"
    )


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "familyseer.cli", "models"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_not_taken_for_done() -> None:
    command = [sys.executable, "-m", "familyseer.cli", "models", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_what_native_code_and_children_print_does_not_reach_the_result() -> None:
    code = (
        "import ctypes, os, subprocess\n"
        "from familyseer.cli._output import print_json, results_only\n"
        "with results_only():\n"
        "    print('from python')\n"
        "    ctypes.CDLL(None).printf(b'from c\\n')\n"
        "    os.write(1, b'from a system call\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n"
        "print_json({'a': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"a": 1}
    assert all(
        f"from {source}" in done.stderr for source in ("python", "c", "a system call", "a child")
    )


def test_the_version_is_that_of_the_distribution() -> None:
    version = importlib.import_module("importlib.metadata").version("familyseer")
    assert CliRunner().invoke(main, ["--version"]).stdout == f"familyseer {version}\n"
