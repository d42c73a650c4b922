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
from typing import Any, NamedTuple

from familyseer.measure._cuda_limits import Resources, cannot_launch, local_bytes, refusal
from familyseer.measure._gpu_timing import gpu_stream, time_on_gpu
from familyseer.measure._timing import (
    RunPlan,
    cold_options,
    make_arguments,
    rotation,
    time_kernel,
    time_rotating,
)
from familyseer.tvm_env import load_tvm
from familyseer.vector_math import vectorisable


class Built(NamedTuple):
    """A candidate's library, the seconds it took, and what it takes of a GPU, if that is known."""

    path: str
    seconds: float
    resources: Resources | None = None


@dataclass(frozen=True)
class Refused:
    """What becomes of a candidate that no fault of its worker keeps from being run.

    An exception would cost the worker its place.

    Attributes
    ----------
    reason
        In one line.
    local_bytes
        Of a candidate that could run but works from memory for want of registers: how much of it,
        to tell the least bad one (`_cuda_limits.local_bytes`). 0 for one that cannot run.
    resources
        What it would take of the GPU; None if it did not compile.
    """

    reason: str
    local_bytes: int = 0
    resources: Resources | None = None


def build_candidate(
    mod: Any, target: Any, folder: str, spilling: bool = False, vector_math: bool = False
) -> Built | Refused:
    """Compiles a scheduled subgraph to a loadable library in `folder`, its own and empty.

    A CUDA candidate that the compiler refuses,
    that the GPU cannot launch or that spills (`_cuda_limits.refusal`) is refused.

    Parameters
    ----------
    spilling
        Whether a candidate that can be launched is given although it spills.
    vector_math
        Whether a processor computes exp and the like in vectors (`familyseer.vector_math`).
    """
    started = time.perf_counter()
    tvm = load_tvm(intrinsics=True)
    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(mod)
    path = os.path.join(folder, "candidate.so")
    with _temporary_files_in(folder):
        if target.kind.name == "cuda":
            found = _build_cuda(mod, target, path, spilling)
            if isinstance(found, Refused):
                return found
            return Built(path, time.perf_counter() - started, found)
        if vector_math:
            mod = vectorisable(mod, target)
        built = tvm.driver.build(mod, target=target)
        if not _link_object(built, path):
            built.export_library(path)
    return Built(path, time.perf_counter() - started)


def _build_cuda(mod: Any, target: Any, path: str, spilling: bool) -> Refused | Resources | None:
    """Builds for a GPU; why the candidate is refused, or what it takes if that is known."""
    from familyseer.measure._cuda_build import CudaCompileError, build_cuda

    arch = str(target.attrs["arch"])
    try:
        kernels = build_cuda(mod, target, path)
    except CudaCompileError as error:
        return Refused(str(error))
    never = cannot_launch(kernels, arch)
    why = never if spilling else refusal(kernels, arch)
    used = Resources.of(kernels, arch)
    if why is None:
        return used
    return Refused(why, 0 if never else local_bytes(kernels), used)


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
    """Times a built candidate on device 0 and gives seconds a run, one figure a repeat.

    Raises
    ------
    GpuLostError
        The GPU does not work, whatever the candidate.
    """
    tvm = load_tvm()
    device = tvm.runtime.device(device_type, 0)
    stream = gpu_stream() if device_type == "cuda" else None
    lib = tvm.runtime.load_module(path)
    arguments = _arguments(device_type, args_info, plan.working_set_bytes)
    if len(arguments) > 1:
        return time_rotating(lib["main"], arguments, plan)
    if stream is not None:
        return time_on_gpu(lib["main"], arguments[0], stream, plan)
    return time_kernel(lib, device, arguments[0], plan, cold_options(device, plan))


@lru_cache(maxsize=2)
def _arguments(
    device_type: str, args_info: tuple[Any, ...], working_set_bytes: int
) -> list[list[Any]]:
    """Sets of random tensors for a subgraph's buffers, kept for its next candidate."""
    tvm = load_tvm()
    fill = tvm.get_global_func("tvm.contrib.random.random_fill_for_measure", allow_missing=True)
    device = tvm.runtime.device(device_type, 0)
    first = make_arguments(device, args_info, fill)
    if device_type != "cpu":
        return [first]
    return rotation(first, working_set_bytes)


def hashable_args_info(infos: Any) -> tuple[Any, ...]:
    """A candidate's argument descriptions as nested tuples that can cross to a worker."""

    def freeze(value: Any) -> Any:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (int, float)):
            return int(value)
        return tuple(freeze(v) for v in value)

    return tuple(freeze(info.as_json()) for info in infos)
