"""A CUDA candidate's library with its machine code inside, and what that code takes of the GPU.

TVM compiles CUDA when it generates it where its CUDA runtime is there, and otherwise when the
library is loaded. Here it is always done at the build: the machine that measures does not compile,
and what the compiler says of registers and memory is known before anything runs.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from familyseer.measure._cuda_headers import light_headers
from familyseer.measure._cuda_launch import Launch, LaunchNotes
from familyseer.measure._cuda_limits import Kernel
from familyseer.measure._cuda_log import compiler_logs, spilled_bytes
from familyseer.toolchain import find_toolkit, wheel_folders
from familyseer.tvm_env import load_tvm

_COMPILE = "tvm_callback_cuda_compile"
# threads that launch kernels must not wait for compilers that run meanwhile
_NICE = 5
# from sm_90 on, cuobjdump counts what the driver reserves of a block's shared memory
_RESERVED_COUNTED_FROM = 90
_RESERVED_BYTES = 1024
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")


class CudaCompileError(Exception):
    """The CUDA compiler refused a candidate's source; the message is its first complaint."""


def build_cuda(mod: Any, target: Any, path: str) -> tuple[Kernel, ...]:
    """Builds a library at `path` that holds a cubin for the target's architecture.

    Parameters
    ----------
    mod
        A scheduled subgraph.
    path
        In a folder that may be written to.

    Returns
    -------
    tuple[Kernel, ...]
        The kernels in the order of their launches; empty if they could not be read.

    Raises
    ------
    CudaCompileError
        The compiler refused the source.
    """
    tvm = load_tvm(intrinsics=True)
    _step_back()
    notes = LaunchNotes()
    arch = str(target.attrs["arch"])
    with (
        target,
        compiler_logs() as logs,
        _compiled_once(os.path.dirname(path)) as compiled,
        tvm.transform.PassContext(instruments=[notes.instrument]),
    ):
        built = tvm.driver.build(mod, target=target)
        modules = [one for one in built.imports if one.kind == "cuda"]
        for module in modules:
            if not compiled:
                # TVM's CUDA runtime is not here, so its module still holds the source
                tvm.get_global_func(_COMPILE)(module.inspect_source("cuda"))
    cubin = compiled[0] if len(compiled) == 1 else None

    def pack(host: Any, is_system_lib: bool, prefix: str, workspace: str) -> str:
        return _pack_imports(host, is_system_lib, prefix, workspace, modules, cubin)

    built.export_library(path, fpack_imports=pack)
    if cubin is None:
        return ()
    used = resources(cubin, arch, os.path.dirname(path))
    # a source that was compiled again has two logs
    return _join(notes.launches, used, spilled_bytes(logs[-1]) if logs else {})


def _step_back() -> None:
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))


@contextmanager
def _compiled_once(folder: str) -> Iterator[list[bytes]]:
    """Collects what TVM's CUDA compiler gives, whoever calls it."""
    tvm = load_tvm()
    original = tvm.get_global_func(_COMPILE)
    compiled: list[bytes] = []
    complaints: list[str] = []

    def compile_and_keep(code: str) -> Any:
        try:
            cubin = _compile(original, code, folder)
        except Exception as error:
            complaints.append(_first_complaint(str(error)))
            raise
        compiled.append(bytes(cubin))
        return cubin

    tvm.register_global_func(_COMPILE, compile_and_keep, override=True)
    try:
        yield compiled
    except Exception:
        # on its way through TVM the exception lost its class
        if complaints:
            raise CudaCompileError(complaints[0]) from None
        raise
    finally:
        tvm.register_global_func(_COMPILE, original, override=True)


def _compile(compiler: Any, code: str, folder: str) -> Any:
    try:
        with light_headers(folder):
            return compiler(code)
    except Exception:  # it may be that the source needs more than those headers have
        return compiler(code)


def _first_complaint(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line)]
    return (errors or lines or ["the CUDA compiler failed"])[0]


def _pack_imports(
    host: Any,
    is_system_lib: bool,
    prefix: str,
    workspace: str,
    modules: list[Any],
    cubin: bytes | None,
) -> str:
    """Writes the object file of a host module's imports, as TVM's own export does.

    A CUDA module that still holds its source is given the cubin instead.
    """
    tvm = load_tvm()
    blob = tvm.get_global_func("runtime.ModulePackImportsToTensor")(host).numpy().tobytes()
    if cubin is not None and len(modules) == 1:
        blob = with_cubin(blob, str(modules[0].inspect_source("cuda")).encode(), cubin)
    triple = host.get_function("_get_target_string")()
    module = tvm.get_global_func("codegen.codegen_blob")(blob, is_system_lib, triple, prefix)
    path = os.path.join(workspace, f"{prefix}devc.o")
    module.write_to_file(path)
    return path


def with_cubin(blob: bytes, source: bytes, cubin: bytes) -> bytes:
    """A serialised tree of modules whose CUDA module holds a cubin in place of its source.

    The layout is that of TVM's ``CUDAModuleNode::SaveToBytes`` inside ``PackImportsToBytes``:
    strings are behind their lengths as little-endian 64-bit numbers, a module is its kind and its
    bytes, those of a CUDA module are the format of its code, its functions, and the code; the whole
    is behind its length. A blob of another form is given back as it is: it loads all the same, and
    is compiled then.
    """
    code = _string(source)
    begin = _string(b"cuda")
    at = blob.find(code)
    # the kind, the length of the module's bytes, the format
    start = blob.rfind(begin, 0, blob.rfind(begin, 0, at)) if at >= 0 else -1
    if start < 0:
        return blob
    kind_end = start + len(begin)
    inner = blob[kind_end + 8 : at + len(code)]
    if struct.unpack_from("<Q", blob, kind_end)[0] != len(inner) or not inner.startswith(begin):
        return blob
    ours = _string(b"cubin") + inner[len(begin) : -len(code)] + _string(cubin)
    tree = blob[8:kind_end] + _string(ours) + blob[at + len(code) :]
    return _string(tree)


def _string(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def resources(cubin: bytes, arch: str, folder: str) -> dict[str, tuple[int, int, int]]:
    """Registers and stack bytes of a thread, and static shared bytes of a block, by kernel.

    Empty where NVIDIA's ``cuobjdump`` is not installed; it takes 2 ms.
    """
    tool = _cuobjdump()
    if tool is None:
        return {}
    file = os.path.join(folder, "candidate.cubin")
    with open(file, "wb") as out:
        out.write(cubin)
    told = subprocess.run(
        [tool, "-res-usage", file], capture_output=True, text=True, check=False
    ).stdout
    os.remove(file)
    number = re.search(r"\d+", arch)
    counted = number is not None and int(number.group()) >= _RESERVED_COUNTED_FROM
    reserved = _RESERVED_BYTES if counted else 0
    return {
        name: (int(registers), int(stack), max(0, int(shared) - reserved))
        for name, registers, stack, shared in _USAGE.findall(told)
    }


@lru_cache(maxsize=1)
def _cuobjdump() -> str | None:
    toolkit = find_toolkit()
    roots = ([toolkit.root] if toolkit is not None else []) + wheel_folders()
    places = [str(root / "bin") for root in roots] + [os.environ.get("PATH", "")]
    return shutil.which("cuobjdump", path=os.pathsep.join(places))


def _join(
    launches: list[Launch], used: dict[str, tuple[int, int, int]], spilled: dict[str, int]
) -> tuple[Kernel, ...]:
    if not launches or any(launch.name not in used for launch in launches):
        return ()
    return tuple(
        Kernel(
            launch.name,
            launch.grid,
            launch.block,
            *used[launch.name],
            launch.dynamic_bytes,
            spilled.get(launch.name, 0),
        )
        for launch in launches
    )
