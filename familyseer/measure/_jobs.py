"""What workers do: build one candidate, run one candidate. Called by name in another process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from familyseer.tvm_env import load_tvm


@dataclass(frozen=True)
class RunPlan:
    """How long a candidate is measured.

    A candidate's first runs decide whether more of them are worth their time: one that is already
    slower than `cutoff_s` by `margin` cannot become the best, and its rough time is good enough
    for a model to learn from.

    Attributes
    ----------
    repeats
        Timings reported for a candidate worth measuring.
    repeat_ms
        Least length of each of those timings, in milliseconds.
    cutoff_s
        The subgraph's best time so far, in seconds; None measures in full.
    margin
        How many times slower than the best a candidate may look and still be measured in full.
    """

    repeats: int = 3
    repeat_ms: float = 6.0
    cutoff_s: float | None = None
    margin: float = 1.25


def build_candidate(mod: Any, target: Any, folder: str) -> tuple[str, float]:
    """Compiles a scheduled subgraph to a loadable library in `folder`, its own and empty.

    Returns the library's path and the seconds it took.
    """
    started = time.perf_counter()
    tvm = load_tvm(intrinsics=True)
    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(mod)
    path = os.path.join(folder, "candidate.so")
    with _temporary_files_in(folder):
        built = tvm.driver.build(mod, target=target)
        if not _link_object(built, path):
            built.export_library(path)
    return path, time.perf_counter() - started


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Compilers that are killed leave their temporary files where they are cleared away."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[1]


def _link_object(built: Any, path: str) -> bool:
    """Links a plain CPU module with the linker itself: 4 ms where the compiler driver takes 70."""
    if built.kind != "llvm" or len(built.imports) > 0 or _linker() is None:
        return False
    source = os.path.splitext(path)[0] + ".o"
    built.write_to_file(source, "o")
    # with libm named, as compiler drivers do: a reference without a version is bound to the oldest
    # expf and powf there are, which are several times slower where results overflow
    linked = subprocess.run(
        [str(_linker()), "-shared", "-o", path, source, "-lm"], capture_output=True, check=False
    )
    return linked.returncode == 0


@lru_cache(maxsize=1)
def _linker() -> str | None:
    import shutil

    return shutil.which("ld") if os.name == "posix" else None


def run_candidate(
    path: str, device_type: str, args_info: tuple[Any, ...], plan: RunPlan
) -> list[float]:
    """Times a built candidate on device 0 and gives seconds a run, one figure a repeat."""
    tvm = load_tvm()
    lib = tvm.runtime.load_module(path)
    device = tvm.runtime.device(device_type, 0)
    return time_kernel(lib, device, _arguments(device_type, args_info), plan)


def time_kernel(lib: Any, device: Any, args: list[Any], plan: RunPlan) -> list[float]:
    """Times the ``main`` of a loaded library, here or over RPC, as its plan says."""
    lib["main"](*args)  # loads code, starts the thread pool, touches memory
    device.sync()
    once = lib.time_evaluator("main", device, number=1, repeat=2)
    first = min(float(t) for t in once(*args).results)
    if plan.cutoff_s is not None and first > plan.margin * plan.cutoff_s:
        return [first]
    number = max(1, int(plan.repeat_ms * 1e-3 / max(first, 1e-9)))
    full = lib.time_evaluator("main", device, number=number, repeat=plan.repeats)
    return [float(t) for t in full(*args).results]


@lru_cache(maxsize=2)
def _arguments(device_type: str, args_info: tuple[Any, ...]) -> list[Any]:
    """Random tensors for a subgraph's buffers, kept for its next candidate."""
    tvm = load_tvm()
    fill = tvm.get_global_func("tvm.contrib.random.random_fill_for_measure", allow_missing=True)
    return make_arguments(tvm.runtime.device(device_type, 0), args_info, fill)


def make_arguments(device: Any, args_info: tuple[Any, ...], fill: Any) -> list[Any]:
    """Random tensors on a device for a subgraph's buffers.

    Integers are 0 or 1: they are often indices, and an index outside its table would crash a
    candidate that is not at fault.

    Parameters
    ----------
    fill
        TVM's function on the device that fills a tensor, None to send numbers there.
    """
    import numpy as np

    tvm = load_tvm()
    rng = np.random.default_rng(0)
    made = []
    for kind, dtype, shape in args_info:
        if kind != "TENSOR":
            raise NotImplementedError(f"argument of kind {kind}: only tensors can be made")
        tensor = tvm.runtime.empty(tuple(shape), dtype, device)
        if "int" in dtype or dtype == "bool":
            tensor.copyfrom(rng.integers(0, 2, size=tuple(shape)).astype(dtype))
        elif fill is not None:
            fill(tensor)
        else:
            tensor.copyfrom(rng.standard_normal(tuple(shape)).astype(dtype))
        made.append(tensor)
    return made


def hashable_args_info(infos: Any) -> tuple[Any, ...]:
    """A candidate's argument descriptions as nested tuples that can cross to a worker."""

    def freeze(value: Any) -> Any:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (int, float)):
            return int(value)
        return tuple(freeze(v) for v in value)

    return tuple(freeze(info.as_json()) for info in infos)
