"""CPU kernels as plain C functions in one shared object that needs no TVM.

TVM's code generator makes an object file whose functions take pointers. Its parallel loops and
workspaces call a few functions of TVM's runtime; `_c_runtime` has them, and of both nothing but the
kernels is visible from outside.
"""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.export._kernels._c_runtime import EXPORTS, runtime_source
from familyseer.export._kernels._choose import Tuned, one_line
from familyseer.export._kernels._lower import NotPlainError, finish_host, lower
from familyseer.kernels._manifest import Argument, machine_name, this_machine
from familyseer.tvm_env import load_tvm
from familyseer.vector_math import vectorisable

log = logging.getLogger(__name__)

LIBRARY = "libkernels.so"
_CPU_DEVICE = 1
# instruction sets that both LLVM and C compilers know by these names
_X86_FEATURES = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "bmi",
    "bmi2",
    "avx512f",
    "avx512cd",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512vbmi",
    "avx512vnni",
)


def raw_symbol(symbol: str) -> str:
    """Name of the function that the code generator makes for an exported one."""
    return f"raw_{symbol}"


def build_shared_object(
    kernels: Sequence[tuple[str, Tuned, Sequence[Argument]]],
    target: Any,
    folder: Path,
    *,
    vector_math: bool = False,
) -> list[str]:
    """Writes the shared object of CPU kernels into a folder.

    One that TVM cannot lower is left out with a warning.

    Parameters
    ----------
    kernels
        Symbol, scheduled subgraph and arguments of each.
    vector_math
        Whether they compute exp and the like as `familyseer.vector_math` says.

    Returns
    -------
    list
        The symbols that it has.

    Raises
    ------
    UserError
        The target is another machine's, no kernel can be lowered, there is no C compiler, or it
        cannot link the kernels.
    """
    _refuse_other_machines(target)
    compiler = _compiler()
    functions: dict[str, Any] = {}
    built = []
    for symbol, tuned, arguments in kernels:
        raw = raw_symbol(symbol)
        try:
            mod = vectorisable(tuned.mod, target) if vector_math else tuned.mod
            functions[raw] = _plain_parameters(lower(mod, target, raw)[0], raw)
        except Exception as error:  # whatever a pass throws at a bad schedule
            log.warning("%s: is left out: %s", tuned.name, one_line(error))
            continue
        built.append((symbol, tuned, arguments))
    if not built:
        raise UserError("no subgraph of the run can be a kernel by itself")
    # without TVM's library context, whose symbols are looked up when a library is loaded
    module = finish_host(functions).with_attr("system_lib_prefix", "familyseer_")
    importlib.import_module("tvm.tirx.build").codegen_build(module, target).write_to_file(
        str(folder / "kernels.o"), "o"
    )
    features = _needed_features(target)
    threads = int(target.attrs.get("num-cores", 0) or 0)
    (folder / "runtime.c").write_text(runtime_source(built, features, threads), "utf-8")
    (folder / "exports.map").write_text(EXPORTS, "utf-8")
    _link(compiler, folder)
    for name in ("kernels.o", "runtime.c", "exports.map"):
        (folder / name).unlink()
    return [symbol for symbol, _, _ in built]


def _plain_parameters(function: Any, symbol: str) -> Any:
    """A lowered function with pointers as parameters, and 0 as its result where all went well."""
    _refuse_calls_of_tvm(function)
    tvm = load_tvm()
    tirx = tvm.tirx
    pointers, statements = [], []
    for buffer in function.params:
        kind = tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)), "global")
        pointers.append(tirx.Var(f"{buffer.name}_pointer", kind))
        statements.append(tirx.DeclBuffer(buffer, data=pointers[-1]))
    body = function.body
    for key, value in (("device_type", _CPU_DEVICE), ("device_id", 0)):
        body = tirx.AttrStmt("default", key, tirx.const(value, "int32"), body)
    statements += [body, tirx.Return(tirx.const(0, "int32"))]
    plain = tirx.PrimFunc(pointers, tirx.SeqStmt(statements), tvm.ir.PrimType("int32"))
    attributes = dict(function.attrs.items())
    # an entry function would be given an alias that TVM's loader calls
    attributes.pop("tirx.is_entry_func", None)
    return plain.with_attr({**attributes, "global_symbol": symbol})


def _refuse_calls_of_tvm(function: Any) -> None:
    """Sorting, random numbers and the like are functions of TVM's runtime, called by name."""
    import tvm_ffi

    called = []

    def on_call(call: Any) -> None:
        name = str(getattr(call.op, "name", ""))
        if "packed" in name or name == "tirx.call_ffi_kernel":
            called.append(str(call.args[0]))

    tvm_ffi.structural_walk(function.body, [(load_tvm().ir.Call, on_call)])
    if called:
        raise NotPlainError(f"it calls {called[0]} of TVM's runtime")


def _refuse_other_machines(target: Any) -> None:
    triple = str(target.attrs.get("mtriple", "") or "")
    machine, here = machine_name(triple.partition("-")[0]), this_machine()
    if (triple and machine != here[0]) or here[1] != "Linux":
        raise UserError(
            f"kernels for {triple or here[1]}: the shared object is linked by this machine's C "
            f"compiler, for {' '.join(here)}; expected a target of this machine, on Linux"
        )


def _compiler() -> list[str]:
    named = os.environ.get("CC")
    if named:
        return shlex.split(named)
    found = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    if found is None:
        raise UserError("no C compiler: expected gcc or clang on PATH, or named by CC")
    return [found]


def _link(compiler: Sequence[str], folder: Path) -> None:
    command = [
        *compiler,
        *("-std=c11", "-O2", "-fPIC", "-pthread", "-shared", "-o", LIBRARY),
        *("runtime.c", "kernels.o"),
        *(f"-Wl,-soname,{LIBRARY}", "-Wl,--version-script=exports.map", "-Wl,--no-undefined"),
        # the pool's threads outlive whoever closes the library
        "-Wl,-z,nodelete",
        # named, since a reference without a version is bound to the oldest and slowest expf
        "-lm",
    ]
    try:
        linked = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise UserError(f"C compiler {compiler[0]}: cannot be run ({error.strerror})") from None
    if linked.returncode:
        lines = [line for line in linked.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in lines if "error" in line or "undefined" in line), lines[-1])
        raise UserError(
            f"C compiler {compiler[0]}: cannot link the kernels ({reason.strip()[:300]}); expected "
            "one that knows C11's atomics and GNU ld's options"
        )


def _needed_features(target: Any) -> list[str]:
    """The instruction sets, of those that can be asked for, that the kernels may use."""
    codegen = importlib.import_module("tvm.target.codegen")
    machine, _ = this_machine()
    if machine != "x86_64":
        return []
    return [one for one in _X86_FEATURES if codegen.llvm_cpu_has_features([one], target)]
