"""CUDA C++ text to a cubin by nvrtc, without a GPU, and what the cubin says of itself.

nvrtc, its headers and cuobjdump are found by ``cuda.pathfinder``, which looks at NVIDIA's wheels,
at conda, and at a system's toolkit (``CUDA_PATH``, ``CUDA_HOME``), in that order for all, so that
headers and compiler are of one version.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOOL_TIMEOUT_S = 120.0
_NEEDS = "pip install 'familyseer[nvrtc]'"


class CompileError(RuntimeError):
    """nvrtc refused a kernel; the message is the compiler's first error, `log` all it said."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Resources:
    """What a thread, or a thread block, of a kernel uses.

    Attributes
    ----------
    registers
        A thread's 32-bit registers.
    stack_bytes, local_bytes
        A thread's memory outside registers; 0 when nothing is spilled.
    shared_bytes
        A thread block's static shared memory.
    """

    registers: int
    stack_bytes: int
    local_bytes: int
    shared_bytes: int

    @property
    def spills(self) -> bool:
        """Whether a thread's values lie in memory."""
        return self.stack_bytes > 0 or self.local_bytes > 0


def cache_folder() -> Path:
    """Where cubins are kept: ``$SPAMM_CACHE``, or ``spamm`` in the user's cache folder."""
    named = os.environ.get("SPAMM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spamm"


def compile_cubin(
    source: str, arch: str, options: Sequence[str] = (), *, cache: Path | None = None
) -> bytes:
    """Compiles CUDA C++ for one architecture, or takes what an earlier call has compiled.

    Parameters
    ----------
    source
        Text of one or several ``extern "C"`` kernels.
    arch
        Such as ``"sm_90"``.
    options
        More options for nvrtc.
    cache
        Folder of earlier results; `cache_folder` unless told. A folder that cannot be written only
        costs the time to compile again.

    Raises
    ------
    CompileError
        The source does not compile.
    RuntimeError
        nvrtc or CUDA's headers are missing.
    """
    every = (*_options(arch), *options)
    key = "\0".join([source, *every, _nvrtc_version()])
    name = hashlib.sha256(key.encode()).hexdigest()
    path = (cache or cache_folder()) / "cubin" / f"{name}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        cubin = _compile(source, every, "CUBIN")
    _keep(path, cubin)
    return cubin


def compile_ptx(source: str, arch: str) -> bytes:
    """PTX of CUDA C++ for a virtual architecture such as ``"compute_90"``.

    GPUs of that architecture and later ones run it.

    Raises
    ------
    CompileError, RuntimeError
        As `compile_cubin`.
    """
    # the compiler ends the text with a zero byte
    return _compile(source, _options(arch), "PTX").rstrip(b"\0")


def resources(cubin: bytes) -> dict[str, Resources]:
    """What each kernel of a cubin uses, by its name.

    Raises
    ------
    RuntimeError
        cuobjdump is missing or cannot read the cubin.
    """
    found = {}
    for name, usage in re.findall(r"Function (\w+):\s*\n(.*)", _cuobjdump(cubin, "-res-usage")):
        numbers = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", usage)}
        found[name] = Resources(
            numbers["REG"], numbers["STACK"], numbers["LOCAL"], numbers["SHARED"]
        )
    return found


def sass(cubin: bytes) -> str:
    """The machine code of a cubin as text.

    Raises
    ------
    RuntimeError
        As `resources`.
    """
    return _cuobjdump(cubin, "-sass")


@functools.cache
def _pathfinder() -> Any:
    try:
        from cuda import pathfinder
    except ImportError:
        raise RuntimeError(
            f"cuda-bindings is not installed: CUDA kernels need it ({_NEEDS})"
        ) from None
    return pathfinder


@functools.cache
def _nvrtc() -> Any:
    _pathfinder()
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as fault:
        raise RuntimeError(
            f"nvrtc cannot be loaded: {_first_line(str(fault))} ({_NEEDS})"
        ) from None
    return nvrtc


@functools.cache
def _nvrtc_version() -> str:
    major, minor = _call("nvrtcVersion")
    return f"{major}.{minor}"


@functools.cache
def _include_options() -> tuple[str, ...]:
    find = _pathfinder().find_nvidia_header_directory
    runtime = find("cudart")
    if runtime is None:
        raise RuntimeError(f"CUDA's headers were not found, nor CUDA_PATH set ({_NEEDS})")
    folders = [runtime, find("cccl")]
    return tuple(f"--include-path={folder}" for folder in folders if folder)


def _call(function: str, *arguments: Any) -> Any:
    nvrtc = _nvrtc()
    status, *answer = getattr(nvrtc, function)(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"{function}: {status.name}")
    return answer[0] if len(answer) == 1 else answer


def _options(arch: str) -> tuple[str, ...]:
    return f"--gpu-architecture={arch}", "--std=c++17", *_include_options()


def _compile(source: str, options: Sequence[str], form: str) -> bytes:
    program = _call("nvrtcCreateProgram", source.encode(), b"spamm.cu", 0, [], [])
    nvrtc = _nvrtc()
    try:
        encoded = [option.encode() for option in options]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _text(program)
            raise CompileError(_first_error(log) or f"nvrtc: {status.name}", log)
        code = b" " * _call(f"nvrtcGet{form}Size", program)
        _call(f"nvrtcGet{form}", program, code)
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _text(program: Any) -> str:
    log = b" " * _call("nvrtcGetProgramLogSize", program)
    _call("nvrtcGetProgramLog", program, log)
    return log.rstrip(b"\0").decode(errors="replace")


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines()]
    return next((line for line in lines if "error" in line.lower()), _first_line(log))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _keep(path: Path, cubin: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    except OSError:
        return
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(cubin)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def _cuobjdump(cubin: bytes, option: str) -> str:
    tool = _pathfinder().find_nvidia_binary_utility("cuobjdump")
    if tool is None:
        raise RuntimeError(f"cuobjdump was not found ({_NEEDS})")
    with tempfile.TemporaryDirectory(prefix="spamm-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        # cuobjdump calls nvdisasm, which lies beside it
        search = os.pathsep.join([str(Path(tool).parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            [tool, option, str(path)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TOOL_TIMEOUT_S,
            env={**os.environ, "PATH": search},
        )
    if done.returncode != 0:
        raise RuntimeError(f"cuobjdump {option}: {_first_line(done.stderr) or done.returncode}")
    return done.stdout
