"""What a release would hold: every file of the packages, its metadata, and nothing else."""

from __future__ import annotations

import importlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import familyseer
from familyseer.versions import KNOWN

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / ".git").exists():
    pytest.skip("a release is made of what git tracks", allow_module_level=True)


@pytest.fixture(scope="module")
def release() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("check_release")


@pytest.fixture(scope="module")
def made(release: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return release.build(tmp_path_factory.mktemp("release"), isolated=False)


def test_wheel_and_sdist_hold_what_they_should(release: Any, made: Any) -> None:
    tracked = release.tracked_files()
    assert len(tracked) > 300
    assert release.problems(made, tracked) == []
    assert {"spamm/py.typed", "familyseer/cli/main.py"} <= made.wheel_files()
    assert {"tests/conftest.py", "scripts/check_release.py"} <= made.sdist_files()


def test_what_is_missing_or_stray_is_told(release: Any, made: Any, tmp_path: Path) -> None:
    wheel = tmp_path / made.wheel.name
    with zipfile.ZipFile(made.wheel) as whole, zipfile.ZipFile(wheel, "w") as other:
        for name in whole.namelist():
            if name != "spamm/py.typed":
                other.writestr(name, whole.read(name))
        other.writestr("tests/conftest.py", "")
    tracked = [*release.tracked_files(), "docs/not-packed.md"]
    assert release.problems(replace(made, wheel=wheel), tracked) == [
        "spamm/py.typed: not in the wheel",
        "tests/conftest.py: in the wheel, of no package",
        "docs/not-packed.md: not in the sdist",
    ]


def test_the_wheel_names_itself_its_command_and_what_it_needs(made: Any) -> None:
    metadata = made.metadata()
    assert metadata["Name"] == "familyseer"
    assert metadata["Version"] == familyseer.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    for minor in (10, 11, 12):
        assert f"Programming Language :: Python :: 3.{minor}" in metadata.get_all("Classifier")
    needs = {r.name: r for r in map(Requirement, metadata.get_all("Requires-Dist")) if not r.marker}
    for name, known in KNOWN.items():
        assert needs[name].specifier == Requirement(name + known).specifier
    with zipfile.ZipFile(made.wheel) as archive:
        [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert b"familyseer = familyseer.cli.main:main" in archive.read(points)


def test_steps_end_with_the_first_that_fails(
    release: Any, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        ("fine", [sys.executable, "-c", "print('fine')"]),
        ("wrong", [sys.executable, "-c", "print('first'); raise SystemExit('no such thing')"]),
        ("never", ["/nonexistent"]),
    ]
    monkeypatch.setattr(release, "trials", lambda *_: iter(steps))
    done = release.try_on(sys.executable, made, tmp_path)
    assert [(name, fault) for name, _, fault in done] == [("fine", ""), ("wrong", "no such thing")]
