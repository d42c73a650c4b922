"""Builds kernels behind the emulator's header, and launches them on NumPy arrays."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spamm.cuda._launch import Program

# its place since NumPy 2
_byte_bounds = getattr(getattr(np.lib, "array_utils", np), "byte_bounds")  # noqa: B009
_HERE = Path(__file__).parent
_COMMON = ("-std=c++17", "-fPIC", "-fno-exceptions", "-U_FORTIFY_SOURCE", "-ffp-contract=off")
# the runtime changes the rounding mode; kernels alias types, as CUDA code does
_RUNTIME = (*_COMMON, "-O2", "-Wall", "-Wextra", "-frounding-math")
_SANITIZERS = ("thread", "alignment", "bounds", "shift", "integer-divide-by-zero")
_KERNEL = (
    *_COMMON,
    "-O2",
    "-g1",
    "-w",
    "-fno-strict-aliasing",
    # a template's shared memory is its library's own
    "-fno-gnu-unique",
    f"-fsanitize={','.join(_SANITIZERS)}",
    "-fno-sanitize-recover=all",
    "--param=tsan-instrument-func-entry-exit=0",
)
_KERNEL_NAME = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+'
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\("
)
_MESSAGE_BYTES = 512
_SCALARS = {"i": np.int32, "I": np.uint32, "q": np.int64, "Q": np.uint64, "f": np.float32}
_SCALARS["d"] = np.float64

Array = np.ndarray[Any, Any]
Argument = Array | np.generic | None


class EmulationError(RuntimeError):
    """A kernel does what a GPU would not forgive: the message says which thread did what."""


class _Array(ctypes.Structure):
    # struct Array of runtime.h
    _fields_ = (
        ("begin", ctypes.c_size_t),
        ("end", ctypes.c_size_t),
        ("granule", ctypes.c_size_t),
        ("writable", ctypes.c_int),
        ("index", ctypes.c_int),
        ("cells", ctypes.c_void_p),
    )


def _compiler() -> str | None:
    # elsewhere g++ may be another compiler by this name
    return shutil.which("g++") if sys.platform == "linux" else None


needs_compiler = pytest.mark.skipif(_compiler() is None, reason="the emulator needs Linux and g++")


@functools.cache
def _workspace() -> Path:
    """Where this process builds; gone when it ends."""
    folder = tempfile.mkdtemp(prefix="spamm-emulator-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _build(flags: Sequence[str], *files: Path, out: Path) -> None:
    compiler = _compiler()
    assert compiler is not None, "the emulator needs g++: mark the test with needs_compiler"
    command = [compiler, *flags, f"-I{_HERE}", "-o", str(out), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{files[0].name} does not compile:\n{done.stderr[:4000]}")


@functools.cache
def _runtime() -> Path:
    """One library for all kernels of the process: it holds the threads' stacks."""
    out = _workspace() / "runtime.so"
    sources = [_HERE / name for name in ("fibers.cpp", "memory.cpp", "warp.cpp")]
    _build((*_RUNTIME, "-shared", "-Wl,--no-undefined"), *sources, out=out)
    return out


def compile_kernels(text: str) -> Kernels:
    """The kernels of a `.cu` text, built once a process for the same text."""
    return _compile(text)


@functools.cache
def _compile(text: str) -> Kernels:
    names = _KERNEL_NAME.findall(text)
    if not names:
        raise EmulationError('the text has no extern "C" __global__ void kernel')
    stem = _workspace() / hashlib.sha256(text.encode()).hexdigest()[:16]
    # lines of the text keep their numbers, which messages name
    body = re.sub(r"\bextern\s+__shared__", "extern", text)
    thunks = "\n".join(f"SPAMM_EMULATE_KERNEL({name})" for name in names)
    source = stem.with_suffix(".cpp")
    source.write_text(f'#include "spamm_emulate.h"\n#line 1 "kernels.cu"\n{body}\n{thunks}\n')
    _build((*_KERNEL, "-c"), source, out=stem.with_suffix(".o"))
    library = stem.with_suffix(".so")
    link = ("-shared", "-nostartfiles", "-Wl,--no-undefined")
    _build(link, stem.with_suffix(".o"), _runtime(), out=library)
    return Kernels(library, names, text)


def run_program(
    program: Program, inputs: Mapping[str, Array], *, seed: int | None = None
) -> dict[str, Array]:
    """Carry out a program's launches in order; its buffers, and the inputs, as they are then.

    What a buffer that is not zeroed holds at first is garbage, as it is on a GPU.
    """
    kernels = compile_kernels(program.source)
    arrays = dict(inputs)
    assert set(program.inputs) == set(inputs), "the program's inputs are others"
    for buffer in program.buffers:
        assert buffer.name not in arrays, f"{buffer.name} is there twice"
        arrays[buffer.name] = np.zeros(buffer.size, buffer.dtype)
        if not buffer.zeroed:
            arrays[buffer.name].view(np.uint8)[:] = 0xA5
    for launch in program.launches:
        args = [arrays[arg] if isinstance(arg, str) else arg for arg in launch.args]
        kernels.launch(
            launch.kernel,
            launch.grid,
            launch.block,
            args,
            shared_bytes=launch.shared_bytes,
            seed=seed,
        )
    return arrays


class Kernels:
    """Kernels built from one text."""

    def __init__(self, library: Path, names: Sequence[str], text: str) -> None:
        self._path = library
        self._library = ctypes.CDLL(str(library))
        self._runtime = ctypes.CDLL(str(_runtime()))
        self._image = ctypes.c_char.in_dll(self._library, "spamm_image")
        self._lines = text.splitlines()
        self.signatures = {name: self._signature(name) for name in names}

    def _signature(self, name: str) -> tuple[str, ...]:
        text = ctypes.create_string_buffer(4096)
        self._library[f"spamm_signature_{name}"](text)
        return tuple(text.value.decode().split())

    def launch(
        self,
        kernel: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        args: Sequence[Argument],
        *,
        shared_bytes: int = 0,
        seed: int | None = None,
    ) -> None:
        """Run a kernel to its end; arrays are used in place.

        args: an array (any strides; a view's own bytes are what may be touched) or None for each
        pointer, a NumPy scalar of exactly the parameter's type for each value, as PyCUDA wants.
        seed: draws the order in which threads are resumed; None takes them in turn.
        Raises EmulationError for what a GPU would do wrong: bounds, races, divergence, alignment.
        """
        arrays, values = self._bind(kernel, args)
        sizes = [_three(grid), _three(block)]
        if not 0 < int(np.prod(sizes[1])) <= 1024 or min(sizes[0]) < 1:
            raise EmulationError(f"{kernel}: no GPU takes grid {grid} with block {block}")
        dims = [(ctypes.c_uint * 3)(*size) for size in sizes]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        failed = self._runtime.spamm_emulate_launch(
            ctypes.byref(self._image),
            self._library[f"spamm_thunk_{kernel}"],
            pointers,
            *dims,
            ctypes.c_size_t(shared_bytes),
            (_Array * max(1, len(arrays)))(*arrays),
            len(arrays),
            ctypes.c_longlong(-1 if seed is None else seed),
            message,
            ctypes.c_size_t(_MESSAGE_BYTES),
        )
        if failed:
            raise EmulationError(f"{kernel}: {self._with_lines(message.value.decode())}")

    def _bind(self, kernel: str, args: Sequence[Argument]) -> tuple[list[_Array], list[Any]]:
        if kernel not in self.signatures:
            raise EmulationError(f"no kernel {kernel!r} but {', '.join(self.signatures)}")
        codes = self.signatures[kernel]
        if len(codes) != len(args):
            raise EmulationError(f"{kernel} takes {len(codes)} arguments, not {len(args)}")
        arrays, values = [], []
        for index, (code, arg) in enumerate(zip(codes, args, strict=True)):
            place = f"argument {index} of {kernel}"
            if code[0] not in "pc":
                wanted = np.dtype(_SCALARS[code])
                if not isinstance(arg, np.generic) or arg.dtype != wanted:
                    raise EmulationError(f"{place} is {arg!r}, not a numpy {wanted}")
                values.append(ctypes.create_string_buffer(arg.tobytes(), wanted.itemsize))
                continue
            address = 0
            if isinstance(arg, np.ndarray):
                arrays.append(_array(arg, code, index, place))
                address = arg.ctypes.data
            elif arg is not None:
                raise EmulationError(f"{place} is {arg!r}, not an array")
            values.append(ctypes.c_void_p(address))
        return arrays, values

    def _with_lines(self, message: str) -> str:
        """The message with code addresses turned into lines of the text, where binutils is."""
        found = re.search(r"\[\+(0x[0-9a-f]+)\]", message)
        tool = shutil.which("addr2line")
        if not found or tool is None:
            return message
        command = [tool, "-i", "-e", str(self._path), found[1]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # #line names kernels.cu, but for the outermost function some versions keep the file's name
        lines = re.findall(rf"(?:kernels\.cu|{self._path.stem}\.cpp):(\d+)", done.stdout)
        said = f"in line {lines[0]}: {self._lines[int(lines[0]) - 1].strip()}" if lines else ""
        return message.replace(found[0], said)


def _three(size: int | tuple[int, ...]) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else size
    x, y, z = (*given, 1, 1)[:3]
    return int(x), int(y), int(z)


def _array(array: Array, code: str, index: int, place: str) -> _Array:
    pointee, size = int(code[1:]), array.dtype.itemsize
    # bytes may be anything, and a vector type covers several elements
    if pointee not in (1, size) and not (pointee > size and pointee % size == 0):
        raise EmulationError(f"{place} points to {pointee} bytes, the array has {array.dtype}")
    begin, end = _byte_bounds(array) if array.size else (array.ctypes.data,) * 2
    writable = code[0] == "p" and array.flags.writeable
    return _Array(begin, end, size, int(writable), index, None)
