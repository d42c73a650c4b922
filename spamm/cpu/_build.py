"""Compiled functions of the CPU kernel: kept in the process, and as LLVM code in a cache folder.

The cache is `$XDG_CACHE_HOME/spamm` or `~/.cache/spamm`. A file's name depends on the functions,
TVM's and LLVM's versions and the processor; a folder that cannot be written or a damaged file
costs time, never a result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from spamm.cpu._block_norms import norms_function
from spamm.cpu._config import ACCUMULATORS, CpuConfig, host_target
from spamm.cpu._emit import module
from spamm.cpu._kernel import multiply_function
from spamm.cpu._pack import pack_function

_one_at_a_time = threading.Lock()


def cpu_kernel(config: CpuConfig, dtype: str) -> tvm.IRModule:
    """The functions of a configuration: ``multiply`` and those that pack its operands.

    ``pack_a_rows`` packs an A whose rows are contiguous, ``pack_a_columns`` one whose columns
    are; ``pack_b_rows`` and ``pack_b_columns`` likewise.

    Parameters
    ----------
    config
        Its register tile and unrolling; sizes and blocks are arguments at run time.
    dtype
        Type of the operands: "float16", "bfloat16", "float32" or "float64".
    """
    sums = ACCUMULATORS[dtype]
    pack = functools.partial(pack_function, lanes=config.lanes, dtype=dtype, sums=sums)
    lanes_a = next(lanes for lanes in (8, 4, 2, 1) if config.rows % lanes == 0)
    return module(
        multiply_function(config, sums),
        pack("pack_a_rows", config.rows, along=False),
        pack("pack_a_columns", config.rows, along=True, lanes=lanes_a),
        pack("pack_b_rows", config.columns, along=True),
        pack("pack_b_columns", config.columns, along=False),
    )


def compiled_kernel(config: CpuConfig, dtype: str) -> Any:
    """`cpu_kernel`, compiled for this machine; functions by name, as ``kernel["multiply"]``."""
    with _one_at_a_time:
        return _kernel(config.rows, config.vectors, config.lanes, config.unroll, dtype)


def compiled_norms(dtype: str) -> Any:
    """``norms`` of `spamm.cpu._block_norms`, compiled for this machine."""
    with _one_at_a_time:
        return _norms(dtype)


@functools.lru_cache(maxsize=64)
def _kernel(rows: int, vectors: int, lanes: int, unroll: int, dtype: str) -> dict[str, Any]:
    config = CpuConfig((1, 1, 1), rows, vectors, lanes, unroll)
    return _compile(cpu_kernel(config, dtype))


@functools.lru_cache(maxsize=8)
def _norms(dtype: str) -> Any:
    return _compile(module(norms_function(dtype)))["norms"]


def _compile(functions: tvm.IRModule) -> dict[str, Any]:
    target = host_target()
    file = _folder() / f"{_key(functions, target)}.ll"
    library = _load(file)
    if library is None:
        library = tvm.tirx.build(functions, target=target)
        _save(file, library.inspect_source("ll"))
    return {each.name_hint: library[each.name_hint] for each in functions.get_global_vars()}


def _key(functions: tvm.IRModule, target: tvm.target.Target) -> str:
    parts = (
        tvm.ir.save_json(functions),
        tvm.__version__,
        codegen.llvm_version_major(),
        codegen.llvm_get_system_triple(),
        target,
    )
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()[:32]


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "spamm"


def _load(file: Path) -> Any:
    """The library in the file; None where there is none, or it is not what was written."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        if head != _head(body):
            return None
        return tvm.runtime.load_module(str(file))
    except Exception:  # whatever is wrong with a cached file, it can be made again
        return None


def _save(file: Path, text: str) -> None:
    body = text.encode()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(_head(body) + b"\n" + body)
            os.replace(name, file)
        except OSError:
            os.unlink(name)
            raise
    except OSError:  # no such folder can be made or written, or the disk is full
        return


def _head(body: bytes) -> bytes:
    """The first line of a cached file, a comment to LLVM."""
    return b"; sha256 " + hashlib.sha256(body).hexdigest().encode()
