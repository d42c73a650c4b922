"""What SpAMM says of arguments, matrices, plans, kernels and results."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spamm
from familyseer.cli._spamm_bench import _check
from familyseer.errors import RunError
from familyseer.spamm_tasks import Problem, SpammOptions, _ending, _measuring, tune_spamm
from familyseer.spamm_tasks._cpu import CpuKind
from familyseer.spamm_tasks._cuda import CudaKind
from familyseer.target import this_cpu
from familyseer.tvm_env import load_tvm
from tests.docs.provocations import Place, command, provokes, refused
from tests.docs.provocations.commands import full_disk

ONES = np.ones((64, 64), "float32")


def _value_error(function: Any, *args: Any, **options: Any) -> str:
    return refused(function, *args, error=ValueError, **options)


@provokes("arguments-of-spamm")
def _arguments(_place: Place) -> Iterator[str]:
    yield _value_error(spamm.matmul, ONES, ONES, tau=-1.0)
    yield _value_error(spamm.matmul, ONES, ONES, tau=0.0, out=np.asfortranarray(ONES)[:, :0])
    yield _value_error(spamm.matmul, np.ma.masked_array(ONES), ONES, tau=0.0)
    read_only = ONES.copy()
    read_only.flags.writeable = False
    yield _value_error(spamm.matmul, ONES, ONES, tau=0.0, out=read_only)
    plan = spamm.plan(ONES, ONES, tau=0.0, backend="numpy")
    yield _value_error(spamm.multiply, plan, ONES[:32], ONES, backend="numpy")


@provokes("a-backend-of-spamm-is-missing")
def _backend(place: Place) -> Iterator[str]:
    from spamm import _backends

    yield _value_error(_backends.resolve, "tpu", None, ONES.dtype)
    yield _value_error(_backends.resolve, "cpu", 64, np.dtype("int8"))
    # as where it is not installed
    place.change.setitem(sys.modules, "pycuda", None)
    place.change.delitem(sys.modules, "spamm.cuda._runtime_pycuda", raising=False)
    place.change.setitem(_backends._MODULES, "cuda", "pycuda.driver")
    yield refused(_backends.load, "cuda", error=RuntimeError)


@provokes("spamms-kernels-for-cuda-cannot-be-compiled")
def _compiler(place: Place) -> Iterator[str]:
    pytest.importorskip("cuda.bindings.nvrtc")
    from spamm.cuda import _compile

    def said(function: Any, *args: Any) -> str:
        return refused(getattr(function, "__wrapped__", function), *args, error=RuntimeError)

    finder = SimpleNamespace(
        find_nvidia_header_directory=lambda _name: None,
        find_nvidia_binary_utility=lambda _name: None,
    )
    pathfinder = _compile._pathfinder
    place.change.setattr(_compile, "_pathfinder", lambda: finder)
    yield said(_compile._include_options)
    yield said(_compile._cuobjdump, b"", "-sass")
    finder.find_nvidia_binary_utility = lambda _name: "/bin/false"
    yield said(_compile._cuobjdump, b"", "-sass")
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    place.change.setattr(nvrtc, "nvrtcVersion", _no_library)
    yield said(_compile._nvrtc)
    place.change.setitem(sys.modules, "cuda.pathfinder", None)
    place.change.delattr("cuda.pathfinder", raising=False)
    yield said(pathfinder)


def _no_library() -> None:
    raise RuntimeError("libnvrtc.so.13 was not found")


@provokes("a-matrix-cannot-be-read")
def _matrices(place: Place) -> Iterator[str]:
    def info(name: str, content: bytes | None = None) -> str:
        path = place.folder / name
        if content is not None:
            path.write_bytes(content)
        return command("spamm", "info", path)

    yield info("a.txt")
    yield info("a.npy")
    yield info("a.npy", b"\x93NUMPY")
    np.save(place.folder / "i.npy", np.eye(4, dtype="int64"))
    yield info("i.npy")
    np.savez(place.folder / "a.npz", a=ONES, b=ONES)
    yield info("a.npz")
    yield info("a.mtx", b"%%MatrixMarket matrix coordinate complex general\n1 1 0\n")


@provokes("a-plan-cannot-be-read")
def _plans(place: Place) -> Iterator[str]:
    path = place.folder / "plan.npz"
    with zipfile.ZipFile(path, "w"):
        pass
    yield _value_error(spamm.Plan.load, path)
    spamm.plan(ONES, ONES, tau=0.0, backend="numpy").save(path)
    yield _value_error(spamm.BatchPlan.load, path)
    batch = np.stack([ONES, ONES])
    spamm.plan(batch, batch, tau=0.0, backend="numpy").save(path)
    yield _value_error(spamm.Plan.load, path)


@provokes("commands-of-spamm")
def _commands(place: Place) -> Iterator[str]:
    a, b = place.folder / "a.npy", place.folder / "b.npy"
    np.save(a, ONES)
    np.save(b, ONES[:32])
    yield command("spamm", "info", a, "--block", "0")
    yield command("spamm", "info", a, "--plot", "plot.txt")
    yield command("spamm", "info", a, b)
    yield command("spamm", "bench", a, "--size", "64")
    yield command("spamm", "bench", "--decay", "im2col", "--size", "64")
    yield command("spamm", "bench", "--tau", "1", "--valid-ratio", "0.1")
    yield command("spamm", "bench", "--tau", "little")
    options = SpammOptions(out=place.folder / "out", valid_ratio=0.1, budget_s=1.0)
    yield refused(tune_spamm, options, ONES[:0], ONES)


@provokes("tuning-spamm")
def _tuning(place: Place) -> Iterator[str]:
    target, here = load_tvm().target.Target, this_cpu()
    shape = (64, 64, 64)
    narrow = Problem(shape, "float32", 0.3, None, "", "tf32")
    yield refused(CpuKind, narrow, target({"kind": "llvm", "mcpu": "core2"}))
    yield refused(CpuKind, narrow, here)
    yield refused(CpuKind, Problem(shape, "int8", 0.3, None, ""), here)
    half = Problem(shape, "float16", 0.3, None, "", "tf32")
    hopper = target({"kind": "cuda", "arch": "sm_90"})
    yield refused(CudaKind, half, hopper, ("NVIDIA H200", "sm_90"))
    np.save(place.folder / "a.npy", np.ones((128, 128), "float32"))
    out = place.folder / "out"
    yield command("spamm", "tune", place.folder / "a.npy", "-o", out, "--block", "32", "--quiet")


@provokes("a-product-that-is-wrong")
def _wrong(place: Place) -> Iterator[str]:
    from familyseer.measure._failures import WorkerError

    yield refused(_check, 2.0, 1.0, 1.0, ONES.dtype, error=RunError)
    slow, fast = {"block": [64, 64, 64]}, {"block": [32, 32, 32]}
    task = SimpleNamespace(default=slow, problem=SimpleNamespace(name="spamm_64x64x64"))
    candidate = SimpleNamespace(mod=None)
    state = SimpleNamespace(elite=[(1.0, candidate)], best_s=1.0)
    place.change.setattr(_ending, "config_of", lambda _mod: fast)

    def duel(_built: object, _rounds: int) -> None:
        raise WorkerError("GPU 0 is lost")

    for built in (None, "kernel.so"):
        builder = SimpleNamespace(build=lambda _config, built=built: built)
        runner = SimpleNamespace(duel=duel)
        yield refused(_ending.compare, task, state, builder, runner, error=RunError)


@provokes("no-room-for-matrices")
def _no_room(place: Place) -> Iterator[str]:
    def write(folder: Path, *_matrices: Any) -> None:
        raise full_disk(folder / "a.npy")

    place.change.setattr(_measuring, "write_operands", write)
    task = SimpleNamespace(problem=None)
    yield refused(_measuring.ConfigBuilder, task, ONES, ONES, 1, error=RunError)
