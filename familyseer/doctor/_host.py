"""The CPU, LLVM's view of it, and the compiler that links libraries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from familyseer.doctor._probe import ask
from familyseer.doctor._report import Check
from familyseer.machine import Cores, cores, cpu_model

# a cold import of TVM on a slow, busy disk
TVM_TIMEOUT_S = 120.0
_COMPILER_TIMEOUT_S = 30.0

# run in a child: a TVM that does not fit its FFI layer segfaults
TVM_PROBE = """
import ctypes, json, pathlib
from familyseer.target import describe_target, this_cpu
from familyseer.tvm_env import load_tvm
tvm = load_tvm()
from tvm.support import cc
from tvm.target import _ffi_api, codegen
runtime = next(iter(pathlib.Path(tvm.__file__).parent.rglob("libtvm_runtime_cuda.so")), None)
cuda_fault = "" if runtime else "this build of TVM has none"
if runtime:
    try:
        ctypes.CDLL(str(runtime))
    except OSError as error:
        cuda_fault = str(error)
print(json.dumps({
    "version": tvm.__version__,
    "llvm": int(_ffi_api.llvm_version_major()),
    "cpu": str(codegen.llvm_get_system_cpu()),
    "triple": str(codegen.llvm_get_system_triple()),
    "target": describe_target(this_cpu()),
    "compiler": cc.get_cc(),
    "cuda_fault": cuda_fault,
    "sees_cuda": bool(tvm.cuda(0).exist),
    "threads": int(tvm.get_global_func("runtime.NumThreads")()),
}))
"""


def check_cpu(tvm: Mapping[str, Any], fault: str) -> list[Check]:
    """The processor and its cores; with what `TVM_PROBE` found, LLVM's name and the default target.

    Parameters
    ----------
    tvm
        The facts that `TVM_PROBE` printed; empty where it failed.
    fault
        Why it failed.
    """
    checks = [
        Check("CPU", "model", "ok", cpu_model()),
        Check("CPU", "cores", "ok", describe_cores(cores())),
    ]
    if not tvm:
        cost = "nothing can be compiled or tuned"
        return [*checks, Check("CPU", "TVM loads", "failed", fault, True, cost)]
    llvm = f"{tvm['llvm']}, which calls this CPU {tvm['cpu'] or 'nothing'} ({tvm['triple']})"
    return [
        *checks,
        Check("CPU", "LLVM in TVM", "ok", llvm, True),
        Check("CPU", "default target", "ok", str(tvm["target"]), True),
        Check("CPU", "threads of TVM", "ok", describe_threads(int(tvm["threads"]), cores())),
    ]


def describe_threads(threads: int, found: Cores) -> str:
    """How many threads tuned kernels run on, and how to have another number.

    TVM's runtime takes half of the logical processors of x86, for it expects two of them to share
    a core; where they do not, as in many virtual machines, that leaves cores idle.
    """
    if threads == found.available:
        return str(threads)
    fix = f"TVM_NUM_THREADS={found.available}, when tuning and when running, uses all"
    return f"{threads} of {found.available} cores; {fix}"


def describe_cores(found: Cores) -> str:
    """The cores of the machine and what of them the process may use, for people."""
    text = f"{found.physical} physical, {found.logical} logical"
    if found.affinity < found.logical:
        text += f"; affinity allows {found.affinity} logical"
    if found.quota is not None:
        text += f"; the control group grants {found.quota:g}"
    return f"{text}; {found.available} used"


def check_compiler(compiler: str | None, known: bool) -> list[Check]:
    """The compiler that TVM's ``export_library`` will call, tried out, and its linker.

    Parameters
    ----------
    compiler
        What `tvm.support.cc.get_cc` gave.
    known
        TVM could be asked.
    """
    cost = "tuned libraries cannot be linked and written"
    if not known:
        return []
    if not compiler:
        hint = f"{cost}; install g++ or clang++, or name one in CXX"
        return [Check("Compiler", "C++ compiler", "missing", "", True, hint)]
    version = ask([compiler, "--version"], _COMPILER_TIMEOUT_S)
    fault = _link_fault(compiler)
    name = f"{compiler} ({version.first_line})" if version.first_line else compiler
    checks = [
        Check("Compiler", "C++ compiler", "failed", f"{compiler}: {fault}", True, cost)
        if fault
        else Check("Compiler", "C++ compiler", "ok", name, True, cost)
    ]
    linker = ask([compiler, "-Wl,--version"], _COMPILER_TIMEOUT_S)
    # linkers that know no --version, such as Apple's, have proved themselves above
    if linker.first_line:
        checks.append(Check("Compiler", "linker", "ok", linker.first_line))
    return checks


def _link_fault(compiler: str) -> str:
    """Why the compiler cannot make a shared library; empty where it can."""
    with tempfile.TemporaryDirectory(prefix="familyseer-doctor-") as folder:
        source, library = Path(folder, "probe.c"), Path(folder, "probe.so")
        source.write_text("int probe(void) { return 0; }\n", encoding="ascii")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
        answer = ask(command, _COMPILER_TIMEOUT_S)
        if answer.fault:
            return answer.fault
        return "" if library.exists() and os.path.getsize(library) else "writes no library"
