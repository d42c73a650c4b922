"""Versions of TVM and XGBoost: told of before anything is loaded, whatever loads it first.

What is installed is faked as pip would leave it: by a folder of metadata earlier on the path.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from familyseer.errors import UserError
from familyseer.versions import ANY_VARIABLE, KNOWN, STAND_INS, check_versions, complaint, installed

TVM_COMMAND = "pip install apache-tvm==0.27.0.post1 'apache-tvm-ffi>=0.1.14.post0,<0.1.15'"


def pretend(folder: Path, name: str, version: str) -> None:
    """Leaves what pip leaves of a distribution, but for its code."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_installed_here_is_known_to_work() -> None:
    check_versions(*KNOWN)


def test_the_known_versions_are_those_that_the_distribution_requires() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    required = {r.name: r.specifier for r in map(Requirement, re.findall(r'"(.+)"', listed[1]))}
    assert {name: required[name] for name in KNOWN} == {
        name: Requirement(name + known).specifier for name, known in KNOWN.items()
    }


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("apache-tvm", "0.27.0.post1"),
        # a build of one's own
        ("apache-tvm", "0.27.0.post1+cuda12"),
        ("apache-tvm-ffi", "0.1.14.post0"),
        ("apache-tvm-ffi", "0.1.14.post1"),
        ("xgboost", "2.1.0"),
        ("xgboost", "3.4.1"),
    ],
)
def test_known_versions_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    pretend(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed(name) == (name, version)
    assert complaint(name) is None


@pytest.mark.parametrize(
    ("name", "version", "command"),
    [
        ("apache-tvm", "0.28.0", TVM_COMMAND),
        ("apache-tvm", "0.27.0", TVM_COMMAND),
        ("apache-tvm", "0.25.0.post1", TVM_COMMAND),
        ("apache-tvm", "no-version", TVM_COMMAND),
        ("apache-tvm-ffi", "0.1.15", TVM_COMMAND),
        ("apache-tvm-ffi", "0.1.12", TVM_COMMAND),
        ("apache-tvm-ffi", "1.0rc1", TVM_COMMAND),
        ("xgboost", "1.7.6", "pip install 'xgboost>=2.1'"),
    ],
)
def test_other_versions_are_refused_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, command: str
) -> None:
    pretend(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as refused:
        check_versions(*KNOWN)
    message = str(refused.value)
    assert message.startswith(f"{name} {version} is installed: expected {name}{KNOWN[name]} (")
    assert command in message
    assert "\n" not in message
    monkeypatch.setenv(ANY_VARIABLE, "1")
    check_versions(*KNOWN)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(
        UserError, match=r"^apache-tvm-ffi is not installed: expected .*pip install"
    ):
        check_versions("apache-tvm-ffi")


def test_a_stand_in_is_held_to_the_same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == STAND_INS["xgboost"]:
            return "1.7"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    problem = complaint("xgboost")
    assert problem is not None
    assert problem.startswith("xgboost-cpu 1.7 is installed: expected xgboost>=2.1")


@pytest.mark.parametrize(
    "code",
    [
        "from familyseer import tune_relax; tune_relax(None, {}, 'llvm', '.', budget_s=1)",
        "from familyseer import FamilyTaskScheduler",
        "from costmodels import FamilyCostModel",
        "import ops.tensor_cores",
        "from familyseer.models import load_model; load_model('mlp')",
    ],
)
def test_no_way_in_loads_a_tvm_that_crashes(tmp_path: Path, code: str) -> None:
    pretend(tmp_path, "apache-tvm-ffi", "0.1.15")
    caught = f"""
import sys
try:
    {code}
except Exception as error:
    print(type(error).__name__, error, sep=": ")
print(sorted({{'tvm', 'tvm_ffi'}} & set(sys.modules)))
"""
    done = python(caught, tmp_path)
    first, loaded = done.stdout.splitlines()
    assert first.startswith("UserError: apache-tvm-ffi 0.1.15 is installed")
    assert loaded == "[]"


def test_the_command_line_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    pretend(tmp_path, "apache-tvm", "0.28.0")
    code = "from familyseer.cli.main import main; main(['families', 'mlp'])"
    done = python(code, tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("familyseer: apache-tvm 0.28.0 is installed: expected ")
    assert done.stderr.count("\n") == 1
    assert TVM_COMMAND in done.stderr


def test_users_who_load_tvm_themselves_are_warned_at_import_and_stopped_at_use(
    tmp_path: Path,
) -> None:
    pretend(tmp_path, "apache-tvm-ffi", "0.1.15")
    code = """
import tvm, tvm.relax
import familyseer
print("imported")
try:
    familyseer.FamilyTaskScheduler
except familyseer.errors.UserError as error:
    print(error)
"""
    done = python(code, tmp_path)
    assert "RuntimeWarning: apache-tvm-ffi 0.1.15 is installed" in done.stderr
    imported, stopped = done.stdout.splitlines()
    assert imported == "imported"
    assert stopped.startswith("apache-tvm-ffi 0.1.15 is installed")
