"""What any command can say, and what installing can leave out."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from familyseer import doctor
from familyseer.cli import _group
from familyseer.doctor import Check, Report, _cuda, _host, _packages
from familyseer.safe_json import load_json
from tests.docs.provocations import Place, command, provokes, refused


@provokes("wrong-use-of-a-command")
def _unknown_and_missing(place: Place) -> Iterator[str]:
    yield command("tune", "mlp", "--out", place.folder / "out", "--fast")
    yield command("tune", "mlp")
    yield command("tune", "mlp", "-o", place.folder / "out", "--seed", "-1")
    yield command("tuen")


@provokes("an-error-that-nobody-foresaw")
def _fault(place: Place) -> Iterator[str]:
    def fail() -> NoReturn:
        raise RuntimeError("LLVM gave up\nin line 3")

    place.change.delenv(_group.DEBUG_VARIABLE, raising=False)
    place.change.setattr(doctor, "diagnose", fail)
    yield command("doctor", code=1)


@provokes("interrupted")
def _interrupt(place: Place) -> Iterator[str]:
    def press() -> NoReturn:
        raise KeyboardInterrupt

    place.change.setattr(doctor, "diagnose", press)
    yield command("doctor", code=1)


@provokes("a-file-of-results-cannot-be-written")
def _no_such_folder(place: Place) -> Iterator[str]:
    import numpy as np

    from familyseer.cli._npz import write_npz

    missing = place.folder / "no" / "folder"
    yield refused(write_npz, missing / "out.npz", {})
    np.save(place.folder / "a.npy", np.eye(64))
    yield command("spamm", "info", place.folder / "a.npy", "--plot", missing / "plot.png")


@provokes("a-json-file-cannot-be-used")
def _damaged_json(place: Place) -> Iterator[str]:
    path, limit = place.folder / "summary.json", 1000
    yield refused(load_json, path, what="a summary")
    yield refused(load_json, place.folder, what="a summary")
    for content in (
        b" " * (limit + 1),
        b"\xff",
        b"{",
        b"[" * 65,
        b'{"a": 1, "a": 2}',
        b"1e999",
        b"NaN",
        b"1" * 30,
        b'"\\ud800"',
    ):
        path.write_bytes(content)
        yield refused(load_json, path, what="a summary", limit=limit)


def _absent(name: str) -> NoReturn:
    raise importlib.metadata.PackageNotFoundError(name)


@provokes("tvm-or-xgboost-is-missing-or-of-another-version")
def _other_versions(place: Place) -> Iterator[str]:
    from familyseer.versions import ANY_VARIABLE, TVM, check_versions

    place.change.delenv(ANY_VARIABLE, raising=False)
    place.change.setattr(importlib.metadata, "version", _absent)
    yield refused(check_versions, *TVM)
    yield refused(check_versions, "xgboost")
    place.change.setattr(importlib.metadata, "version", lambda _name: "0.1.15")
    yield refused(check_versions, *TVM)


@provokes("pytorch-is-missing")
def _without_torch(place: Place) -> Iterator[str]:
    path = place.folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "0")
    place.without_torch()
    yield command("families", path)


def _lines(*checks: Check) -> Iterator[str]:
    for check in checks:
        if check.status != "ok" or check.name == "threads of TVM":
            # one check alone, so that its name is not padded to another's
            yield Report((check,)).lines()[1].strip()


@provokes("what-the-doctor-says-of-packages")
def _nothing_installed(place: Place) -> Iterator[str]:
    place.change.setattr(importlib.metadata, "version", _absent)
    place.change.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    yield from _lines(*_packages.check_packages(), *_packages.check_optional_packages())


@provokes("what-the-doctor-says-of-the-compiler-and-the-cpu")
def _no_compiler(place: Place) -> Iterator[str]:
    yield from _lines(*_host.check_cpu({}, "crashed (SIGSEGV)"))
    yield from _lines(*_host.check_compiler("", known=True))
    yield from _lines(*_host.check_compiler(str(place.folder / "g++"), known=True))
    facts: dict[str, Any] = {"llvm": 20, "cpu": "skylake", "triple": "", "target": "", "threads": 1}
    cores = SimpleNamespace(physical=4, logical=8, affinity=8, quota=None, available=4)
    place.change.setattr(_host, "cores", lambda: cores)
    yield from _lines(*_host.check_cpu(facts, ""))


@provokes("what-the-doctor-says-of-cuda")
def _no_cuda(place: Place) -> Iterator[str]:
    tvm = {"cuda_fault": "libcudart.so.13: cannot open shared object file", "sees_cuda": False}
    put = place.change.setattr

    def answer(facts: dict[str, Any], fault: str) -> None:
        put(_cuda, "ask_python", lambda _code, _timeout_s: (facts, fault))

    put(importlib.metadata, "version", _absent)
    put(_cuda, "find_toolkit", lambda: None)
    answer({}, "OSError: libcuda.so.1: cannot open shared object file")
    yield from _lines(*_cuda.check_cuda(tvm))
    put(importlib.metadata, "version", lambda _name: "13.0")
    toolkit = SimpleNamespace(include=None, origin="CUDA_PATH", root=place.folder)
    put(_cuda, "find_toolkit", lambda: toolkit)
    answer({}, "cuInit gives error 999")
    yield from _lines(*_cuda.check_cuda(tvm))
    answer({"version": "13.0", "gpus": []}, "")
    yield from _lines(*_cuda._driver())


def full_disk(path: Path) -> OSError:
    """What writing says where there is no room; `path` is the file that it names."""
    try:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
    except OSError as error:
        return OSError(error.errno, os.strerror(error.errno or 0), str(path))
    raise AssertionError("there is room on /dev/full")
