"""CUDA kernels: what a host function launches, and the source, cubin and PTX of that."""

from __future__ import annotations

import importlib
import logging
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from familyseer.errors import RunError
from familyseer.export._kernels._choose import Tuned, one_line
from familyseer.export._kernels._lower import NotPlainError, finish_device, lower
from familyseer.kernels._manifest import ITEM_BYTES, Launch
from familyseer.machine import available_cores
from familyseer.measure._cuda_headers import light_headers
from familyseer.toolchain import cuda_environment_once
from familyseer.tvm_env import load_tvm

log = logging.getLogger(__name__)

# what cuMemAlloc aligns to, so that a buffer in a workspace is as good as one of its own
_ALIGNMENT = 256
_GRID = ("blockIdx.x", "blockIdx.y", "blockIdx.z")
_BLOCK = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
_SHARED = "tirx.use_dyn_shared_memory"


@dataclass(frozen=True)
class LoweredKernel:
    """A kernel before it is compiled: CUDA C++, and how it is launched.

    `launches` and `workspace_bytes` are as in `familyseer.kernels._manifest.CudaCode`.
    """

    source: str
    launches: tuple[Launch, ...]
    workspace_bytes: int


def lower_kernel(tuned: Tuned, target: Any, symbol: str, names: Sequence[str]) -> LoweredKernel:
    """Lowers a tuned subgraph for CUDA.

    Parameters
    ----------
    symbol
        What the names of the device functions begin with.
    names
        Of the arguments, in the order of the subgraph's parameters.

    Raises
    ------
    NotPlainError
        The subgraph needs more than launches of kernels, or TVM cannot lower it.
    """
    try:
        host, functions = lower(tuned.mod, target, symbol)
        plan = _Plan(host, names, functions)
        source = cuda_source(functions, target)
    except NotPlainError:
        raise
    except Exception as error:  # whatever a pass throws at a bad schedule
        raise NotPlainError(one_line(error)) from None
    return LoweredKernel(source, plan.launches, plan.workspace_bytes)


def ptx_arch(arch: str) -> str:
    """The virtual architecture whose PTX every later GPU takes: without features of its own.

    Parameters
    ----------
    arch
        Of a target, such as ``sm_90a``.
    """
    return re.sub(r"^sm_(\d+)[af]?$", r"compute_\1", arch)


def compile_sources(sources: Mapping[str, str], arch: str) -> list[tuple[bytes, bytes | None]]:
    """Compiles CUDA C++, several sources at a time.

    Parameters
    ----------
    sources
        By the kernels' names, for messages.

    Returns
    -------
    list
        For each source its cubin for `arch`, and its PTX for later GPUs, None with a warning where
        it needs features of `arch` alone.

    Raises
    ------
    RunError
        The CUDA compiler is missing or refuses a source.
    """
    cuda_environment_once()
    jobs = [
        (name, source, form, form_arch)
        for name, source in sources.items()
        for form, form_arch in (("cubin", arch), ("ptx", ptx_arch(arch)))
    ]
    with (
        tempfile.TemporaryDirectory(prefix="familyseer-kernels-") as folder,
        # as candidates are compiled, so that what was measured is what is exported
        light_headers(folder),
        ThreadPoolExecutor(available_cores()) as threads,
    ):
        tried = list(threads.map(_try, jobs))
    found = []
    for cubin, text in zip(range(0, len(jobs), 2), range(1, len(jobs), 2), strict=True):
        # it may be that the source needs more than those headers have
        binary = tried[cubin] or _compile(*jobs[cubin])
        try:
            # the compiler ends the text with a zero byte
            ptx = (tried[text] or _compile(*jobs[text])).rstrip(b"\0")
        except RunError as error:
            log.warning("no PTX for later GPUs: %s", error)
            ptx = None
        found.append((binary, ptx))
    return found


def _try(job: tuple[str, str, str, str]) -> bytes | None:
    try:
        return _compile(*job)
    except RunError:
        return None


def cuda_source(functions: Mapping[str, Any], target: Any) -> str:
    """The CUDA C++ of lowered device functions."""
    build = importlib.import_module("tvm.tirx.build").codegen_build
    # where TVM has a CUDA runtime it compiles at once, for the target in scope
    with target:
        return str(build(finish_device(dict(functions)), target).inspect_source())


def _compile(name: str, source: str, form: str, arch: str) -> bytes:
    nvcc = importlib.import_module("tvm.support.nvcc")
    try:
        return bytes(nvcc.compile_cuda(source, target_format=form, arch=arch))
    except (RuntimeError, ValueError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise RunError(f"{name}: no {form} for {arch}: {reason.strip()[:300]}") from None


class WorkspaceSizes:
    """Where buffers lie in a workspace, one behind the other, and how large it is: `total`."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, nbytes: int) -> int:
        """The place of one more buffer, in bytes."""
        place = self.total
        self.total += -(-max(1, nbytes) // _ALIGNMENT) * _ALIGNMENT
        return place


class _Plan:
    """What a lowered host function launches.

    Attributes
    ----------
    launches
        In their order.
    workspace_bytes
        Of all buffers between them, one behind the other.
    """

    def __init__(self, host: Any, names: Sequence[str], functions: Mapping[str, Any]) -> None:
        self._tirx = load_tvm().tirx
        self._functions = functions
        # of each buffer, what it points to: an argument, or a place in the workspace
        self._places: dict[Any, str | int] = dict(zip(host.params, names, strict=True))
        self._launches: list[Launch] = []
        self._workspace = WorkspaceSizes()
        self._visit(host.body)
        self.workspace_bytes = self._workspace.total
        self.launches = tuple(self._launches)
        if not self.launches:
            raise NotPlainError("it launches nothing")

    def _visit(self, statement: Any) -> None:
        kind = type(statement).__name__
        handlers: dict[str, Callable[[Any], None]] = {
            "SeqStmt": self._visit_all,
            "AllocBuffer": self._allocate,
            "DeclBuffer": self._view,
            "AttrStmt": lambda one: self._visit(one.body),
            "Evaluate": self._evaluate,
        }
        if kind not in handlers:
            raise NotPlainError(f"its host code has a {kind}")
        handlers[kind](statement)

    def _visit_all(self, sequence: Any) -> None:
        for one in sequence.seq:
            self._visit(one)

    def _allocate(self, statement: Any) -> None:
        buffer = statement.buffer
        dtype = str(buffer.dtype)
        if dtype not in ITEM_BYTES:
            raise NotPlainError(f"its workspace holds {dtype}")
        size = math.prod(int(extent) for extent in buffer.shape) * ITEM_BYTES[dtype]
        self._places[buffer] = self._workspace.add(size)

    def _view(self, statement: Any) -> None:
        self._places[statement.buffer] = self._place(statement.data)

    def _evaluate(self, statement: Any) -> None:
        call = statement.value
        if isinstance(call, self._tirx.IntImm):
            return
        name = str(getattr(getattr(call, "op", None), "name", type(call).__name__))
        if name != "tirx.call_ffi_kernel":
            raise NotPlainError(f"its host code calls {name}")
        function = str(call.args[0].value)
        tags = [str(tag) for tag in call.attrs.launch_params]
        extents = call.args[len(call.args) - len(tags) :]
        pointers = call.args[1 : len(call.args) - len(tags)]
        if len(pointers) != len(self._functions[function].params):
            raise NotPlainError(f"its launch of {function} is not understood")
        found = dict(zip(tags, map(self._number, extents), strict=True))
        unknown = set(found) - {*_GRID, *_BLOCK, _SHARED}
        if unknown:
            raise NotPlainError(f"its launch of {function} needs {', '.join(sorted(unknown))}")
        x, y, z = (found.get(tag, 1) for tag in _GRID)
        a, b, c = (found.get(tag, 1) for tag in _BLOCK)
        self._launches.append(
            Launch(
                function=function,
                grid=(x, y, z),
                block=(a, b, c),
                shared_bytes=found.get(_SHARED, 0),
                arguments=tuple(map(self._place, pointers)),
            )
        )

    def _place(self, data: Any) -> str | int:
        """What the data pointer of a buffer points to."""
        args = getattr(data, "args", None)
        if args is None or len(args) != 1 or args[0] not in self._places:
            raise NotPlainError(f"its host code has the pointer {data}")
        return self._places[args[0]]

    def _number(self, value: Any) -> int:
        if not isinstance(value, self._tirx.IntImm):
            raise NotPlainError(f"a launch is {value} large")
        return int(value.value)
