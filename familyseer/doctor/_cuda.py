"""CUDA piece by piece: the driver and its GPUs, the compiler, the headers, the runtimes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from familyseer.doctor._probe import ask, ask_python
from familyseer.doctor._report import Check
from familyseer.toolchain import find_toolkit
from familyseer.versions import installed

_SECTION = "CUDA"
_TIMEOUT_S = 20.0
# TVM loads, then nvrtc compiles its prologue
_COMPILE_TIMEOUT_S = 120.0
_NO_GPU = "nothing can be run or measured on a GPU here; CPUs are tuned as ever"
_NO_NVRTC = "CUDA kernels cannot be compiled here"

# run in a child: the driver may hang on a GPU in trouble
_DRIVER_PROBE = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
number = ctypes.c_int()
def value(call, *args):
    fault = call(ctypes.byref(number), *args)
    if fault:
        raise SystemExit(f"{call.__name__} gives error {fault}")
    return number.value
fault = cuda.cuInit(0)
if fault and fault != 100:
    raise SystemExit(f"cuInit gives error {fault}")
version = value(cuda.cuDriverGetVersion)
gpus = []
for index in range(0 if fault else value(cuda.cuDeviceGetCount)):
    device = value(cuda.cuDeviceGet, index)
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, 256, device)
    memory = ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major = value(cuda.cuDeviceGetAttribute, 75, device)
    minor = value(cuda.cuDeviceGetAttribute, 76, device)
    gpus.append({
        "name": name.value.decode(errors="replace"),
        "memory_bytes": memory.value,
        "capability": f"{major}.{minor}",
    })
print(json.dumps({"version": f"{version // 1000}.{version % 1000 // 10}", "gpus": gpus}))
"""

_NVRTC_PROBE = """
import json
from cuda.bindings import nvrtc
fault, major, minor = nvrtc.nvrtcVersion()
if int(fault):
    raise SystemExit(f"nvrtcVersion gives {fault}")
print(json.dumps({"version": f"{major}.{minor}"}))
"""

_COMPILE_PROBE = """
import json
from familyseer.tvm_env import load_tvm
load_tvm()
from tvm.support.nvcc import compile_cuda
code = "#include <cuda_fp16.h>\\n"
code += 'extern "C" __global__ void twice(half* x) { x[threadIdx.x] += x[0]; }'
assert len(compile_cuda(code, target_format="cubin", arch="sm_90", compiler="nvrtc")) > 0
print(json.dumps({"arch": "sm_90"}))
"""

_PYCUDA_PROBE = """
import json
import pycuda, pycuda.driver
print(json.dumps({"version": pycuda.VERSION_TEXT}))
"""


def check_cuda(tvm: Mapping[str, Any]) -> list[Check]:
    """Everything between this process and a GPU.

    Parameters
    ----------
    tvm
        The facts of `TVM_PROBE`; empty where it failed.
    """
    return [
        *_driver(),
        _nvrtc(),
        _headers(),
        *([_compiles()] if tvm and installed("cuda-bindings") else []),
        *([_tvm_runtime(tvm)] if tvm else []),
        _pycuda(),
    ]


def _driver() -> list[Check]:
    facts, fault = ask_python(_DRIVER_PROBE, _TIMEOUT_S)
    if not facts:
        if "libcuda.so.1: cannot open" in fault:
            return [Check(_SECTION, "driver", "missing", "", False, _NO_GPU)]
        return [Check(_SECTION, "driver", "failed", fault, False, _NO_GPU)]
    checks = [Check(_SECTION, "driver", "ok", f"CUDA {facts['version']}{_driver_release()}")]
    for index, gpu in enumerate(facts["gpus"]):
        memory = f"{gpu['memory_bytes'] / 2**30:.1f} GiB"
        value = f"{gpu['name']}, {memory}, compute capability {gpu['capability']}"
        checks.append(Check(_SECTION, f"GPU {index}", "ok", value))
    if not facts["gpus"]:
        checks.append(Check(_SECTION, "GPU", "missing", "", False, _NO_GPU))
    return checks


def _driver_release() -> str:
    """The driver's release as nvidia-smi tells it, where that can be asked."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = ask(query, _TIMEOUT_S)
    if answer.fault:
        return f" (nvidia-smi: {answer.fault})"
    return f", release {answer.first_line}" if answer.first_line else ""


def _nvrtc() -> Check:
    name = "nvrtc"
    if not installed("cuda-bindings"):
        return Check(_SECTION, name, "missing", "no cuda-bindings", False, _NO_NVRTC)
    facts, fault = ask_python(_NVRTC_PROBE, _TIMEOUT_S)
    if not facts:
        return Check(_SECTION, name, "failed", fault, False, _NO_NVRTC)
    return Check(_SECTION, name, "ok", str(facts["version"]))


def _headers() -> Check:
    cost = "CUDA kernels cannot be compiled here"
    toolkit = find_toolkit()
    if toolkit is None:
        why = "no CUDA toolkit, and no wheels of one (pip install familyseer[nvrtc])"
        return Check(_SECTION, "headers", "missing", why, False, cost)
    if toolkit.include is None:
        why = f"{toolkit.origin} names {toolkit.root}, which holds no CUDA headers"
        return Check(_SECTION, "headers", "failed", why, False, cost)
    return Check(_SECTION, "headers", "ok", f"{toolkit.include} ({toolkit.origin})")


def _compiles() -> Check:
    name, cost = "CUDA kernels", "CUDA kernels cannot be compiled here"
    facts, fault = ask_python(_COMPILE_PROBE, _COMPILE_TIMEOUT_S)
    if not facts:
        return Check(_SECTION, name, "failed", fault, False, cost)
    return Check(_SECTION, name, "ok", f"float16 compiles for {facts['arch']}")


def _tvm_runtime(tvm: Mapping[str, Any]) -> Check:
    name, fault = "CUDA in TVM", str(tvm["cuda_fault"])
    if fault:
        return Check(_SECTION, name, "failed", fault, False, _NO_GPU)
    return Check(_SECTION, name, "ok", "loads" + (", sees a GPU" if tvm["sees_cuda"] else ""))


def _pycuda() -> Check:
    cost = "SpAMM's CUDA kernels and kernel libraries cannot be run here"
    if not installed("pycuda"):
        return Check(_SECTION, "pycuda", "missing", "", False, cost)
    facts, fault = ask_python(_PYCUDA_PROBE, _TIMEOUT_S)
    if not facts:
        return Check(_SECTION, "pycuda", "failed", fault, False, cost)
    return Check(_SECTION, "pycuda", "ok", str(facts["version"]))
