"""Kernel libraries and cost models that cannot be written, loaded or called."""

from __future__ import annotations

import ast
import ctypes
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from costmodels import FamilyCostModel
from familyseer.errors import RunError
from familyseer.export._kernels import _cpu
from familyseer.export._kernels._folder import refuse_foreign, replacing
from familyseer.export.kernels import _with_arguments, export_kernels
from familyseer.kernels import _multiprocessors, load, measure_multiprocessors
from familyseer.kernels._arrays import check
from familyseer.kernels._cuda import CudaKernel
from familyseer.kernels._manifest import read_manifest
from familyseer.kernels._multiprocessors import DriverError
from familyseer.target import resolve_target, this_cpu
from familyseer.tvm_env import load_tvm
from spamm.cuda._space import default
from tests.docs.provocations import Place, command, provokes, refused
from tests.familyseer.kernels.finished_run import (
    HOPPER,
    doubled,
    finished_run,
    parallel,
    rows_to_blocks,
)
from tests.familyseer.kernels.pretend_pycuda import PretendedGpu


def tuned(folder: Path) -> Path:
    """OUT of a run with one kernel, which doubles 32 numbers."""
    return finished_run(folder / "out", this_cpu(), [(doubled(), [(parallel, 1e-6)])])


def library(folder: Path) -> Path:
    """That kernel as a library."""
    export_kernels(tuned(folder), folder / "kernels")
    return folder / "kernels"


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@provokes("kernels-cannot-be-exported")
def _export(place: Place) -> Iterator[str]:
    out, kernels = tuned(place.folder), place.folder / "kernels"

    def export() -> str:
        return command("export", out, "--kernels", kernels)

    whole = (out / "summary.json").read_text()
    edited(out / "summary.json", target=None)
    yield export()
    edited(out / "summary.json", target='{"kind": "c"}')
    yield export()
    (out / "summary.json").write_text(whole)
    families = (out / "families.json").read_text()
    (out / "families.json").write_text("[]")
    yield export()
    (out / "families.json").write_text(families)
    (out / "tuning" / "checked.json").write_text("[1]")
    yield export()
    (out / "tuning" / "checked.json").unlink()
    (out / "quarantine").mkdir()
    (out / "quarantine" / "wrong-1.json").write_text("{}")
    yield export()
    shutil.rmtree(out / "quarantine")
    records = out / "tuning" / "database_tuning_record.json"
    records.write_text("")
    yield export()
    records.unlink()
    yield export()
    strange = SimpleNamespace(dtype="float8_e4m3fn", name="x", shape=(1,), output=False)
    yield refused(_with_arguments, [SimpleNamespace(name="odd", parameters=[strange])])

    def for_a_gpu(schedule: Any) -> None:
        schedule.bind(schedule.get_loops(schedule.get_sblock("Y"))[0], "threadIdx.x")

    bound = finished_run(place.folder / "gpu", this_cpu(), [(doubled(), [(for_a_gpu, 1e-6)])])
    yield command("export", bound, "--kernels", kernels)


@provokes("a-products-kernel-cannot-be-exported")
def _product(place: Place) -> Iterator[str]:
    from familyseer.export._kernels._spamm import read_product

    out = place.folder / "out"
    out.mkdir()
    block = [64, 64, 64]
    found = {
        "model": "spamm",
        "shape": block,
        "dtype": "float32",
        "tuned_us": 1.0,
        "config": {"block": block},
        "wanted_valid_ratio": 0.1,
    }

    def product(**changes: Any) -> Any:
        (out / "summary.json").write_text(json.dumps({**found, **changes}))
        return read_product(out)

    yield refused(product, config=None)
    yield refused(product, shape=[1])
    yield refused(product().for_cpu)
    yield refused(product().for_cuda, "sm_90")
    pytest.importorskip("cuda.bindings.nvrtc")
    place.change.setattr("spamm.cuda._compile.compile_cubin", _no_compiler)
    config = default("float16", "sm_90", (32, 32, 32)).to_dict()
    made = product(dtype="float16", config=config)
    yield refused(made.for_cuda, "sm_90", error=RunError)


def _no_compiler(_source: str, _arch: str) -> bytes:
    raise RuntimeError("nvrtc cannot be loaded: libnvrtc.so.13 was not found")


@provokes("the-folder-for-kernels")
def _folder(place: Place) -> Iterator[str]:
    kernels = library(place.folder)
    (kernels / "notes.txt").touch()
    yield refused(refuse_foreign, kernels)
    yield refused(refuse_foreign, kernels.parent)
    yield refused(refuse_foreign, kernels / "notes.txt")

    def write() -> None:
        with replacing(kernels / "notes.txt" / "kernels"):
            pass

    yield refused(write)
    place.change.setattr(Path, "iterdir", _not_permitted)
    yield refused(refuse_foreign, kernels)


def _not_permitted(path: Path) -> Iterator[Path]:
    raise PermissionError(13, "Permission denied", str(path))


@provokes("the-c-compiler")
def _c_compiler(place: Place) -> Iterator[str]:
    out, kernels = tuned(place.folder), place.folder / "kernels"
    other = load_tvm().target.Target({"kind": "llvm", "mtriple": "riscv64-linux-gnu"})
    yield refused(_cpu.build_shared_object, [], other, place.folder)
    for compiler in ("/bin/false", "no-such-compiler"):
        place.change.setenv("CC", compiler)
        yield command("export", out, "--kernels", kernels)
    place.change.delenv("CC")
    place.change.setenv("PATH", str(place.folder))
    yield command("export", out, "--kernels", kernels)


@provokes("a-kernel-library-cannot-be-loaded")
def _load(place: Place) -> Iterator[str]:
    def refusal(error: type[Exception] = ValueError) -> str:
        return refused(load, kernels, error=error)

    kernels = library(place.folder)
    manifest, shared = kernels / "manifest.json", kernels / "libkernels.so"
    whole, content = manifest.read_text(), shared.read_bytes()
    for changes in (
        {"format": "else"},
        {"version": 9},
        {"kernels": 1},
        {"machine": "z80"},
    ):
        edited(manifest, **changes)
        yield refusal()
        manifest.write_text(whole)
    yield refused(measure_multiprocessors, kernels, error=ValueError)
    # a KeyError's text is its argument's representation
    yield ast.literal_eval(refused(load(kernels).__getitem__, "conv", error=KeyError))
    symbols = json.loads(whole)["kernels"]
    edited(manifest, kernels=[{**symbols[0], "symbol": "fs_absent"}])
    yield refused(load(kernels).__getitem__, "tanh", error=ValueError)
    manifest.write_text(whole)
    # new files each time: one that has been loaded must not change
    for other in (content[:-1] + b"x", content[:-1], None, content):
        shared.unlink(missing_ok=True)
        if other is not None:
            shared.write_bytes(other)
        if other != content:
            yield refusal()
    with place.change.context() as change:
        # a processor that says no to all that it is asked for
        change.setattr(ctypes.CDLL, "__getitem__", lambda _library, _name: lambda: 0)
        yield refusal()
        change.setattr(ctypes, "CDLL", _not_loaded)
        yield refusal(OSError)
    manifest.unlink()
    yield refusal()


def _cuda_library(folder: Path) -> Path:
    target = resolve_target(json.dumps(HOPPER))
    out = finished_run(folder / "out", target, [(doubled(), [(rows_to_blocks, 1e-6)])])
    export_kernels(out, folder / "kernels")
    return folder / "kernels"


def _not_loaded(_path: str) -> None:
    raise OSError("libm.so.6: version GLIBC_9.9 not found")


@provokes("a-kernel-library-cannot-be-loaded")
def _load_cuda(place: Place) -> Iterator[str]:
    pytest.importorskip("cuda.bindings.nvrtc")
    kernels = _cuda_library(place.folder)
    yield refused(measure_multiprocessors, kernels, names=["conv"], error=ValueError)


@provokes("a-kernel-library-needs-a-gpu")
def _no_gpu(place: Place) -> Iterator[str]:
    pytest.importorskip("cuda.bindings.nvrtc")
    kernels = _cuda_library(place.folder)
    with place.change.context() as change:
        change.setitem(sys.modules, "pycuda", None)
        yield refused(load, kernels, error=ImportError)
    with place.change.context() as change:
        change.setitem(sys.modules, "cuda.bindings.driver", None)
        change.delattr("cuda.bindings.driver", raising=False)
        yield refused(measure_multiprocessors, kernels, error=ImportError)
    place.change.setattr(_multiprocessors._Driver, "call", _no_driver)
    yield refused(measure_multiprocessors, kernels, error=OSError)
    empty: Any = SimpleNamespace(cuda=None, name="tanh")
    yield refused(CudaKernel, None, read_manifest(kernels), empty, error=ValueError)
    gpu = PretendedGpu((8, 0))
    with gpu.installed():
        yield refused(load, kernels, error=ValueError)
        gpu.capability = (9, 0)
        found = load(kernels)
        place.change.setattr(found["tanh"]._run, "_run", _no_kernel)
        yield refused(found["tanh"], np.zeros(32, "float32"), error=RuntimeError)
        driver = sys.modules["pycuda.driver"]
        place.change.setattr(driver, "module_from_buffer", _no_kernel)
        yield refused(load(kernels).__getitem__, "tanh", error=OSError)
        place.change.setattr(driver, "init", _no_kernel)
        yield refused(load, kernels, error=OSError)


def _no_driver(_driver: object, name: str, *_args: Any) -> None:
    raise DriverError(f"{name}: CUDA_ERROR_NO_DEVICE")


def _no_kernel(*_args: Any) -> None:
    raise PretendedGpu.Error("an illegal memory access was encountered")


@provokes("a-kernel-refuses-its-arguments")
def _call(place: Place) -> Iterator[str]:
    kernel = load(library(place.folder))["tanh"]
    x = np.zeros(32, "float32")
    read_only = x.copy()
    read_only.flags.writeable = False
    skewed = np.zeros(32 * 4 + 1, "uint8")[1:].view("float32")

    def call(*given: Any, error: type[Exception] = ValueError, **options: Any) -> str:
        return refused(kernel, *given, error=error, **options)

    yield call(error=TypeError)
    yield call(x.astype("float64"), error=TypeError)
    yield call(x[:31])
    yield call(np.zeros(64, "float32")[::2])
    yield call(x.tolist(), error=TypeError)
    yield call(skewed)
    yield call(x.astype(">f4"), error=TypeError)
    yield call(x, read_only)
    yield call(x, x)
    yield call(x, stream=object(), error=TypeError)
    aligned = replace(kernel.arguments[0], alignment=64)
    yield refused(check, "double", aligned, x.shape, "float32", True, 4, error=ValueError)
    place.change.setattr(kernel._run, "_function", lambda *_addresses: -1)
    yield call(x, error=RuntimeError)


@provokes("a-kernel-refuses-its-arguments")
def _call_cuda(_place: Place) -> Iterator[str]:
    kernel = object.__new__(CudaKernel)
    kernel._name = "double"
    argument: Any = SimpleNamespace(name="x")
    yield refused(kernel._host, argument, "text", error=TypeError)


@provokes("a-saved-cost-model-cannot-be-used")
def _cost_model(place: Place) -> Iterator[str]:
    folder = place.folder / "saved"

    def refusal() -> str:
        return refused(FamilyCostModel().load, str(folder), error=ValueError)

    yield refusal()
    folder.mkdir()
    yield refusal()
    model = FamilyCostModel()
    model.assign("0123456789abcdef", "matmul")
    model.learner.family_of("0123456789abcdef")
    model.save(str(folder))
    manifest = next(folder.glob("*.json"))
    whole = json.loads(manifest.read_text())
    for changes in ({"format": None}, {"format": 999}, {"feature_length": 1}):
        edited(manifest, **{**whole, **changes})
        yield refusal()
    edited(manifest, **whole)
    samples = next(folder.glob("samples-*.npz"))
    samples.write_bytes(b"others")
    yield refusal()
    samples.unlink()
    yield refusal()
