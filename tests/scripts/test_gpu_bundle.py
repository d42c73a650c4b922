"""The bundle for a GPU host without a network: packed, unpacked once, refused where it is wrong."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture
def bundle(script: Any, tmp_path: Path) -> Path:
    """A small bundle for this Python."""
    packer, reader = script("gpu_bundle"), script("_gpu_bundle")
    site, folder = tmp_path / "made", tmp_path / "bundle"
    (site / "carried").mkdir(parents=True)
    (site / "carried" / "__init__.py").write_text("VALUE = 7\n")
    (site / "carried" / "core.pyi").write_text("VALUE: int\n")
    (site / "carried" / "libtvm_compiler.so").write_bytes(b"large")
    (folder / reader.SDISTS).mkdir(parents=True)
    digests = packer.pack(site, folder, 0)
    assert sorted(digests) == ["compiler.tar.xz", "site.tar.xz"]
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    contents = {"python": python, "packages": {"carried": "1"}, "archives": digests}
    (folder / reader.CONTENTS).write_text(json.dumps(contents))
    return folder


def test_a_bundle_is_unpacked_once_and_imported(script: Any, bundle: Path, tmp_path: Path) -> None:
    reader = script("_gpu_bundle")
    dest = tmp_path / "site"
    assert reader.unpack(bundle, dest) == dest
    assert not (dest / "carried" / "core.pyi").exists()
    assert (dest / "carried" / "libtvm_compiler.so").read_bytes() == b"large"
    environ = {**os.environ, "PYTHONPATH": str(dest)}
    subprocess.run([sys.executable, "-c", "import carried"], env=environ, check=True)
    (dest / "carried" / "kept").touch()
    reader.unpack(bundle, dest)
    assert (dest / "carried" / "kept").exists()
    assert reader.build_pycuda(bundle, dest, environ, 10.0) in (
        "there",
        "missing: the bundle has no source of it",
    )


def test_a_bundle_that_does_not_fit_is_refused(script: Any, bundle: Path, tmp_path: Path) -> None:
    reader = script("_gpu_bundle")
    contents = json.loads((bundle / reader.CONTENTS).read_text())
    (bundle / reader.CONTENTS).write_text(json.dumps({**contents, "python": "3.5"}))
    with pytest.raises(reader.BundleError, match=r"is for Python 3\.5, expected one for 3\."):
        reader.unpack(bundle, tmp_path / "site")
    (bundle / reader.CONTENTS).write_text(json.dumps(contents))
    for name in contents["archives"]:
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(whole + b"x")
        with pytest.raises(reader.BundleError, match=f"{name}: damaged"):
            reader.unpack(bundle, tmp_path / "site")
        (bundle / name).write_bytes(whole)
    (bundle / "compiler.tar.xz").unlink()
    with pytest.raises(reader.BundleError, match=r"compiler\.tar\.xz: damaged or missing"):
        reader.unpack(bundle, tmp_path / "site")
    assert not (tmp_path / "site").exists()
