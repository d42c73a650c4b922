"""The C header and the example that go with a CUDA library, for the driver API."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from familyseer.export._kernels._c_text import described
from familyseer.kernels._manifest import Argument, CudaCode, Launch, Scalar

_HEADER = Template(
    r"""/* Tuned kernels for $arch, launched with the CUDA driver API. Link with -lcuda.
 *
 * For each kernel: its handle, a function that loads it into the current context (from its cubin,
 * or where the GPU is a later one from its PTX), one that queues it on a stream, and one that
 * unloads it. Arrays are in GPU memory, row-major and without gaps, of the extents noted beside
 * them. Outputs may not overlap any other array. The workspace, of any content, may not be in use
 * by another launch at the same time.
 */
#ifndef FAMILYSEER_KERNELS_H
#define FAMILYSEER_KERNELS_H

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

static inline CUresult fs_load_module(CUmodule *module, const char *folder, const char *cubin,
                                      const char *ptx) {
  char path[4096];
  CUresult status = CUDA_ERROR_FILE_NOT_FOUND;
  const char *const names[2] = {cubin, ptx};
  for (int i = 0; i < 2 && status != CUDA_SUCCESS; ++i) {
    if (names[i] == NULL) break;
    const int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    if (length < 0 || (size_t)length >= sizeof path) return CUDA_ERROR_INVALID_VALUE;
    status = cuModuleLoad(module, path);
  }
  return status;
}

$kernels
#endif
"""
)

_KERNEL = Template(
    r"""/* $symbol$described
 */
#define $workspace_name ((size_t)$workspace_bytes)

typedef struct {
  CUmodule module;
  CUfunction functions[$count];
} ${symbol}_kernel;

static inline void ${symbol}_unload(${symbol}_kernel *kernel) {
  if (kernel->module != NULL) (void)cuModuleUnload(kernel->module);
  kernel->module = NULL;
}

static inline CUresult ${symbol}_load(${symbol}_kernel *kernel, const char *folder) {
  CUresult status = fs_load_module(&kernel->module, folder, "$cubin", $ptx);
  if (status != CUDA_SUCCESS) {
    kernel->module = NULL;
    return status;
  }
$load
  if (status != CUDA_SUCCESS) ${symbol}_unload(kernel);
  return status;
}

static inline CUresult ${symbol}_launch(const ${symbol}_kernel *kernel, $parameters,
    CUdeviceptr workspace, CUstream stream) {
  CUresult status = CUDA_SUCCESS;
  (void)workspace;
$launches
  return status;
}
"""
)

_EXAMPLE = Template(
    r"""/* Runs $symbol once on zeros and prints the first bytes of what it wrote.
 *
 *   cc example.c -I"$$CUDA_HOME/include" -lcuda -o example
 *   ./example .
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

static void check(CUresult status, const char *what) {
  if (status == CUDA_SUCCESS) return;
  const char *name = NULL;
  if (cuGetErrorName(status, &name) != CUDA_SUCCESS || name == NULL) name = "unknown error";
  fprintf(stderr, "%s: %s\n", what, name);
  exit(EXIT_FAILURE);
}

static CUdeviceptr allocate(size_t bytes) {
  CUdeviceptr memory = 0;
  check(cuMemAlloc(&memory, bytes > 0 ? bytes : 1), "cuMemAlloc");
  if (bytes > 0) check(cuMemsetD8(memory, 0, bytes), "cuMemsetD8");
  return memory;
}

int main(int argc, char **argv) {
  CUdevice device;
  CUcontext context;
  check(cuInit(0), "cuInit");
  check(cuDeviceGet(&device, 0), "cuDeviceGet");
  check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
  check(cuCtxSetCurrent(context), "cuCtxSetCurrent");

  ${symbol}_kernel kernel;
  check(${symbol}_load(&kernel, argc > 1 ? argv[1] : "."), "loading $symbol");
$allocations
  CUdeviceptr workspace = allocate($workspace_name);
  check(${symbol}_launch(&kernel, $names, workspace, NULL), "launching $symbol");
  check(cuCtxSynchronize(), "running $symbol");

  unsigned char first[$shown];
  check(cuMemcpyDtoH(first, $output, sizeof first), "cuMemcpyDtoH");
  for (size_t i = 0; i < sizeof first; ++i) printf("%02x", first[i]);
  putchar('\n');

$frees
  check(cuMemFree(workspace), "cuMemFree");
  ${symbol}_unload(&kernel);
  check(cuDevicePrimaryCtxRelease(device), "cuDevicePrimaryCtxRelease");
  return EXIT_SUCCESS;
}
"""
)

_Kernel = tuple[str, Sequence[Argument], CudaCode]


def header(kernels: Sequence[_Kernel], arch: str) -> str:
    """``kernels.h`` of a CUDA library.

    Parameters
    ----------
    kernels
        Symbol, arguments and code of each.
    """
    return _HEADER.substitute(
        arch=arch, kernels="\n".join(_kernel(symbol, args, code) for symbol, args, code in kernels)
    )


def _kernel(symbol: str, arguments: Sequence[Argument], code: CudaCode) -> str:
    return _KERNEL.substitute(
        symbol=symbol,
        described=described(arguments),
        workspace_name=_workspace_name(symbol),
        workspace_bytes=code.workspace_bytes,
        count=len(code.launches),
        cubin=code.cubin,
        ptx="NULL" if code.ptx is None else f'"{code.ptx}"',
        parameters=", ".join(f"CUdeviceptr {one.name}" for one in arguments),
        load="\n".join(_load(number, launch) for number, launch in enumerate(code.launches)),
        launches="\n".join(_launch(number, launch) for number, launch in enumerate(code.launches)),
    )


def _workspace_name(symbol: str) -> str:
    return f"{symbol}_WORKSPACE_BYTES"


def _load(number: int, launch: Launch) -> str:
    handle = f"kernel->functions[{number}]"
    lines = [
        "  if (status == CUDA_SUCCESS)",
        f'    status = cuModuleGetFunction(&{handle}, kernel->module, "{launch.function}");',
    ]
    if launch.shared_bytes > 48 << 10:
        lines += [
            "  if (status == CUDA_SUCCESS)",
            f"    status = cuFuncSetAttribute({handle},",
            "                                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,",
            f"                                {launch.shared_bytes});",
        ]
    return "\n".join(lines)


def _launch(number: int, launch: Launch) -> str:
    pointers = ", ".join(f"&value_{i}" for i in range(len(launch.arguments)))
    grid, block = (", ".join(map(str, extents)) for extents in (launch.grid, launch.block))
    return "\n".join(
        [
            "  if (status == CUDA_SUCCESS) {",
            *(f"    {_value(i, one)};" for i, one in enumerate(launch.arguments)),
            f"    void *parameters[] = {{{pointers}}};",
            f"    status = cuLaunchKernel(kernel->functions[{number}], {grid}, {block},",
            f"                            {launch.shared_bytes}, stream, parameters, NULL);",
            "  }",
        ]
    )


def _value(number: int, argument: str | int | Scalar | None) -> str:
    """The variable that holds what a launch passes."""
    if isinstance(argument, Scalar):
        return f"{argument.dtype}_t value_{number} = {argument.value}"
    place = f"workspace + {argument}" if isinstance(argument, int) else argument or "0"
    return f"CUdeviceptr value_{number} = {place}"


def example(symbol: str, arguments: Sequence[Argument]) -> str:
    """``example.c`` of a CUDA library: one kernel, run once."""
    output = next(one for one in arguments if one.output)
    return _EXAMPLE.substitute(
        symbol=symbol,
        workspace_name=_workspace_name(symbol),
        names=", ".join(one.name for one in arguments),
        allocations="\n".join(
            f"  CUdeviceptr {one.name} = allocate({one.nbytes});" for one in arguments
        ),
        output=output.name,
        shown=max(1, min(16, output.nbytes)),
        frees="\n".join(f'  check(cuMemFree({one.name}), "cuMemFree");' for one in arguments),
    )
