"""OUT's manifest: what it says, and which libraries it keeps from being loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.export import use
from familyseer.export._manifest import check_manifest, remove_manifest, write_manifest
from familyseer.tvm_env import load_tvm

LIBRARY = b"\x7fELF" + bytes(range(256)) * 9


@pytest.fixture
def out(tmp_path: Path, cpu: Any) -> Path:
    """OUT as a run leaves it, with a library that nobody could load."""
    (tmp_path / "model.so").write_bytes(LIBRARY)
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "database_workload.json").write_text("[]\n")
    spec = {"name": "x", "shape": [2], "dtype": "float32"}
    summary = {"device": "cpu", "inputs": [spec], "outputs": []}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    write_manifest(tmp_path, target=cpu, versions={"apache-tvm": "0.27.0"}, model_digest="ab" * 32)
    return tmp_path


def change(out: Path, **values: Any) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, **values}))


def refusal(out: Path) -> str:
    with pytest.raises(UserError) as refused:
        check_manifest(out)
    message = str(refused.value)
    assert str(out) in message
    assert "\n" not in message
    return message


def test_it_says_what_is_in_out_and_what_it_came_from(out: Path, cpu: Any) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert (manifest["target"], manifest["model"]) == (str(cpu), "ab" * 32)
    assert manifest["versions"] == {"apache-tvm": "0.27.0"}
    assert manifest["files"]["model.so"] == {
        "size": len(LIBRARY),
        "sha256": hashlib.sha256(LIBRARY).hexdigest(),
    }
    assert manifest["files"]["tuning/database_workload.json"]["size"] == 3
    check_manifest(out)


def test_a_library_is_for_the_processor_of_its_host(out: Path) -> None:
    arm = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
    target = load_tvm().target.Target({"kind": "cuda", "arch": "sm_90", "host": arm})
    write_manifest(out, target=target, versions={}, model_digest="")
    assert json.loads((out / "manifest.json").read_text())["machine"] == "aarch64"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda out: (out / "model.so").write_bytes(LIBRARY[:-1]), "its run wrote 2308; copy OUT"),
        (lambda out: (out / "model.so").write_bytes(LIBRARY[:-1] + b"x"), "other digest"),
        (lambda out: (out / "model.so").unlink(), "cannot be read"),
        (lambda out: change(out, format=2), "format 2 is newer than 1, .*upgrade familyseer"),
        (lambda out: change(out, format="1"), "has no format number"),
        (lambda out: change(out, machine="s390x"), "built for .* s390x, this machine is"),
        (lambda out: change(out, system="Plan9"), "built for Plan9 .*, this machine is"),
        (lambda out: change(out, files={}), "does not describe model.so"),
        (lambda out: change(out, files=[3]), "does not describe model.so"),
        (lambda out: change(out, machine=None), "does not describe model.so"),
        (lambda out: (out / "manifest.json").write_text("{"), "not JSON"),
        (lambda out: (out / "manifest.json").write_bytes(b" " * (2 << 20)), "larger than"),
    ],
)
def test_what_the_run_did_not_write_is_refused(
    out: Path, damage: Callable[[Path], Any], said: str
) -> None:
    damage(out)
    assert re.search(said, refusal(out))


def test_an_out_without_a_manifest_is_used_with_a_warning(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove_manifest(out)
    remove_manifest(out)
    with caplog.at_level(logging.WARNING):
        check_manifest(out)
    (warning,) = caplog.messages
    assert f"{out}: has no manifest.json" in warning


def test_a_changed_library_is_never_loaded(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(use, "run_in_process", lambda path, *_: loaded.append(path) or [])
    monkeypatch.setattr(use, "time_libraries", lambda paths, *_: loaded.append(paths["tuned"]))
    (out / "model.so").write_bytes(LIBRARY + b"more")
    with pytest.raises(UserError, match="its run wrote"):
        use.run_library(out, {"x": np.zeros(2, "float32")})
    with pytest.raises(UserError, match="its run wrote"):
        use.bench_library(out, 1, 0)
    assert loaded == []
    (out / "model.so").write_bytes(LIBRARY)
    use.run_library(out, {"x": np.zeros(2, "float32")})
    assert loaded == [str(out / "model.so")]


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ("{", "not JSON"),
        ("[]", "names no device"),
        ('{"device": 3}', "names no device"),
        ('{"device": "cpu"}', "does not describe its inputs"),
        ('{"device": "cpu", "inputs": [{"name": "x"}]}', "does not describe its inputs"),
        ('{"device": "cpu", "inputs": [], "outputs": 3}', "does not describe its outputs"),
    ],
)
def test_a_summary_of_something_else_is_refused(out: Path, summary: str, said: str) -> None:
    (out / "summary.json").write_text(summary)
    with pytest.raises(UserError, match=f"{out / 'summary.json'}: .*{said}"):
        use.read_summary(out)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [-1]),
        ("shape", [2.0]),
        ("shape", [2**40]),
        ("shape", [2**20, 2**20]),
        ("shape", [1] * 99),
        ("dtype", "object"),
        ("dtype", "float32,float32"),
        ("dtype", "finfo"),
        ("dtype", 4),
        ("index_bound", 0),
        ("index_bound", "many"),
    ],
)
def test_an_input_that_no_array_can_be_is_refused(out: Path, field: str, value: Any) -> None:
    spec = {"name": "x", "shape": [2], "dtype": "bfloat16"}
    summary = {"device": "cpu", "inputs": [spec], "outputs": []}
    (out / "summary.json").write_text(json.dumps(summary))
    use.read_summary(out)
    spec[field] = value
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="does not describe its inputs"):
        use.read_summary(out)
