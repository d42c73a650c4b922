"""Folders that are no kernel library, or no longer: one line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from familyseer.kernels import load
from familyseer.kernels._manifest import read_manifest


@pytest.fixture
def library(cpu_library: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(cpu_library, tmp_path / "library"))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)
    return str(refused.value)


def test_a_changed_file_is_named_and_not_loaded(library: Path) -> None:
    path = library / "libkernels.so"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert f"has {len(content) - 1} bytes" in refusal(library)
    path.write_bytes(content[:-1] + b"x")
    assert "libkernels.so: is not what was exported" in refusal(library)
    path.unlink()
    assert "libkernels.so: cannot be read" in refusal(library)


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "nowhere")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1, "files": {}}')
    assert "not the manifest of a kernel library" in refusal(tmp_path)


def change(library: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = library / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m.update(version=2), "is of version 2, expected 1"),
        (lambda m: m.update(machine="riscv64"), "kernels for riscv64 Linux, this machine is"),
        (lambda m: m.update(kind="tpu"), "its kind is 'tpu'"),
        (lambda m: m.update(library="/etc/passwd"), "is not among its files"),
        (lambda m: m["files"].update({"../x": {"size": 0, "sha256": ""}}), "is no name"),
        (lambda m: m["kernels"].append(m["kernels"][0]), "comes twice"),
        (lambda m: m["kernels"][0].pop("symbol"), "symbol is missing"),
        (lambda m: m["kernels"][0]["arguments"][0].update(dtype="object"), "'object'"),
        (lambda m: m["kernels"][0]["arguments"][0].update(shape=[-1]), "-1 is not a number"),
        (lambda m: m["kernels"][0]["arguments"][0].update(shape=[2**40, 9]), "any memory"),
        (lambda m: m.update(kernels="none"), "kernels is missing"),
    ],
)
def test_a_malformed_manifest_is_told_apart(
    library: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(library, edit)
    assert said in refusal(library)


def test_a_function_that_is_not_there_is_told(library: Path) -> None:
    change(library, lambda m: m["kernels"][0].update(symbol="fs_absent"))
    with pytest.raises(ValueError, match="has no fs_absent"):
        load(library)["fused_matmul_softmax"]


def test_no_cut_of_a_manifest_is_taken_for_one(library: Path) -> None:
    path = library / "manifest.json"
    whole = path.read_bytes().rstrip()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        assert "manifest" in refusal(library)


def test_any_value_in_place_of_any_other_is_refused_or_fits(library: Path) -> None:
    whole = json.loads((library / "manifest.json").read_text())
    lines = []
    for place in places(whole):
        for wrong in (None, -1, 1e300, "", [], {}, True):
            changed = json.loads(json.dumps(whole))
            *path, last = place
            at = changed
            for step in path:
                at = at[step]
            at[last] = wrong
            (library / "manifest.json").write_text(json.dumps(changed))
            try:
                read_manifest(library)
            except ValueError as error:
                lines.append(str(error))
    assert len(lines) > 100
    assert not [line for line in lines if "\n" in line]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to parts of a value, of each list the first item's alone."""
    if isinstance(value, dict):
        inside = list(value.items())
    else:
        inside = list(enumerate(value[:1])) if isinstance(value, list) else []
    own = [path] if path else []
    return own + [place for key, part in inside for place in places(part, (*path, key))]


def test_a_cpu_without_the_instructions_is_refused(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    class Old:
        def __init__(self, _path: str) -> None: ...

        def __getitem__(self, _name: str) -> Callable[[], int]:
            return lambda: 0

    monkeypatch.setattr(ctypes, "CDLL", Old)
    assert "which this one lacks" in refusal(library)
