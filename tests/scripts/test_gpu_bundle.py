"""The bundle for a GPU host without a network: packed, unpacked once, refused where it is wrong."""

from __future__ import annotations

import hashlib
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
    (folder / reader.SDISTS).mkdir(parents=True)
    packer.pack(site, folder / reader.ARCHIVE, 0)
    digest = hashlib.sha256((folder / reader.ARCHIVE).read_bytes()).hexdigest()
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    contents = {"python": python, "packages": {"carried": "1"}, "sha256": digest}
    (folder / reader.CONTENTS).write_text(json.dumps(contents))
    return folder


def test_a_bundle_is_unpacked_once_and_imported(script: Any, bundle: Path, tmp_path: Path) -> None:
    reader = script("_gpu_bundle")
    dest = tmp_path / "site"
    assert reader.unpack(bundle, dest) == dest
    assert not (dest / "carried" / "core.pyi").exists()
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
    with (bundle / reader.ARCHIVE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(reader.BundleError, match="damaged"):
        reader.unpack(bundle, tmp_path / "site")
