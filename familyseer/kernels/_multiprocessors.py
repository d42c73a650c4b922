"""How small a part of a GPU a kernel can live on, measured where there is a GPU.

A CUDA green context confines its kernels to some of a GPU's multiprocessors (CUDA driver API,
"Green Contexts"). Each kernel is timed on every size of part that the GPU offers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from familyseer.kernels._binaries import choose_binary
from familyseer.kernels._cuda import passed
from familyseer.kernels._manifest import (
    NAME,
    CudaCode,
    Manifest,
    Scalar,
    check_files,
    read_manifest,
)
from familyseer.safe_json import save_json

WITHIN = 0.04
# launches in one CUDA graph, so that the time between them is the GPU's and not Python's
DEPENDS_ON_LISTS = "its time depends on the lists that it is given"
_LAUNCHES = 20
_REPEATS = 9
_SHARED_UNASKED = 48 << 10


def fewest(times_s: Mapping[int, float], within: float = WITHIN) -> int:
    """The fewest multiprocessors whose time is at most `within` above the best.

    Parameters
    ----------
    times_s
        Multiprocessors -> seconds of a run.
    within
        A share of the best time.
    """
    limit = (1 + within) * min(times_s.values())
    return min(count for count, seconds in times_s.items() if seconds <= limit)


def measure_multiprocessors(
    folder: str | os.PathLike[str], *, names: Sequence[str] | None = None, device: int = 0
) -> dict[str, int | None]:
    """Measures the fewest multiprocessors that each kernel needs, and notes it in the manifest.

    Needs cuda-bindings, a driver that knows green contexts (CUDA 12.4 and later) and a GPU that is
    otherwise idle. A kernel that cannot be measured gets None, and the reason in the manifest.
    Inputs are zeros: a kernel whose time depends on its values needs another measure.

    Parameters
    ----------
    folder
        A CUDA kernel library.
    names
        Of the kernels to measure; by default all.
    device
        Number of the GPU.

    Returns
    -------
    dict
        Kernel -> multiprocessors.

    Raises
    ------
    ValueError
        The folder is no CUDA kernel library or damaged, it has no kernel of such a name, or
        nothing in it runs on this GPU.
    OSError
        The manifest cannot be written, or there is no GPU.
    ImportError
        cuda-bindings is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(manifest)
    if manifest.kind != "cuda":
        raise ValueError(f"{folder}: holds kernels for CPUs, expected a library for CUDA")
    wanted = list(manifest.entries) if names is None else list(names)
    for name in wanted:
        if name not in manifest.entries:
            raise ValueError(f"{folder}: has no kernel {name!r}")
    found: dict[str, dict[str, Any]] = {}
    with _Driver(device) as driver:
        for name in wanted:
            found[name] = _measure(driver, manifest, name)
    _note(folder, found)
    return {name: result["fewest"] for name, result in found.items()}


def _measure(driver: _Driver, manifest: Manifest, name: str) -> dict[str, Any]:
    entry = manifest.entries[name]
    code = entry.cuda
    assert code is not None, "a CUDA library's kernels have CUDA code"
    image = (manifest.folder / choose_binary(manifest, code, driver.capability)).read_bytes()
    if any(argument.fewer for argument in entry.arguments):
        # zeros, which stand for inputs here, are empty lists
        return {"fewest": None, "of": driver.multiprocessors, "reason": DEPENDS_ON_LISTS}
    sizes = {argument.name: argument.nbytes for argument in entry.arguments}
    try:
        with driver.memory([*sizes.values(), code.workspace_bytes]) as addresses:
            pointers = dict(zip(sizes, addresses, strict=False))
            times = {
                count: driver.time(image, code, pointers, addresses[-1], count)
                for count in driver.sizes()
            }
    except DriverError as error:
        return {"fewest": None, "of": driver.multiprocessors, "reason": str(error)}
    return {"fewest": fewest(times), "of": driver.multiprocessors, "reason": None}


def _note(folder: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    content = json.loads((folder / NAME).read_text("utf-8"))
    for kernel in content["kernels"]:
        if kernel["name"] in found:
            kernel["multiprocessors"] = dict(found[kernel["name"]])
    save_json(folder / NAME, content)


class DriverError(RuntimeError):
    """A call of CUDA's driver failed; the message names both."""


class _Driver:
    """The few calls of CUDA's driver API that measuring needs, on one GPU."""

    def __init__(self, device: int) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise ImportError(
                f"measuring on parts of a GPU needs cuda-bindings ({error}); "
                "expected pip install cuda-bindings"
            ) from None
        self._cu = driver
        try:
            self.call("cuInit", 0)
            self._device = self.call("cuDeviceGet", device)
            self._primary = self.call("cuDevicePrimaryCtxRetain", self._device)
            self.call("cuCtxSetCurrent", self._primary)
            attribute = driver.CUdevice_attribute
            self.capability = (
                self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            )
            self.multiprocessors = self._attribute(
                attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
            )
        # cuda-bindings raises RuntimeError itself where there is no driver to load
        except RuntimeError as error:
            raise OSError(f"GPU {device} cannot be used ({error})") from None

    def __enter__(self) -> _Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("cuDevicePrimaryCtxRelease", self._device)

    def call(self, name: str, *args: Any) -> Any:
        """Calls a function of the driver: its value, a list where it gives several.

        Raises
        ------
        DriverError
            It failed, or this version has no such function.
        """
        function = getattr(self._cu, name, None)
        if function is None:
            raise DriverError(f"cuda-bindings has no {name}")
        code, *values = function(*args)
        if code != self._cu.CUresult.CUDA_SUCCESS:
            raise DriverError(f"{name}: {code.name}")
        return values[0] if len(values) == 1 else values

    def _attribute(self, which: Any) -> int:
        return int(self.call("cuDeviceGetAttribute", which, self._device))

    @contextmanager
    def memory(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Zeroed blocks of memory; their addresses."""
        with ExitStack() as stack:
            addresses = []
            for size in sizes:
                block = self.call("cuMemAlloc", max(1, size))
                stack.callback(self._cu.cuMemFree, block)
                self.call("cuMemsetD8", block, 0, max(1, size))
                addresses.append(int(block))
            yield addresses

    def sizes(self) -> list[int]:
        """The numbers of multiprocessors that a part can have, the whole GPU last."""
        kind = self._cu.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
        resource = self.call("cuDeviceGetDevResource", self._device, kind)
        least = getattr(resource.sm, "minSmPartitionSize", 0) or 2
        step = getattr(resource.sm, "smCoscheduledAlignment", 0) or least
        return [*range(least, self.multiprocessors, step), self.multiprocessors]

    @contextmanager
    def _part(self, count: int) -> Iterator[None]:
        """Makes a context of so many multiprocessors current."""
        if count == self.multiprocessors:
            yield
            return
        kind = self._cu.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
        whole = self.call("cuDeviceGetDevResource", self._device, kind)
        groups = self.call("cuDevSmResourceSplitByCount", 1, whole, 0, count)[0]
        descriptor = self.call("cuDevResourceGenerateDesc", list(groups[:1]), 1)
        flags = self._cu.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM
        green = self.call("cuGreenCtxCreate", descriptor, self._device, flags)
        try:
            self.call("cuCtxSetCurrent", self.call("cuCtxFromGreenCtx", green))
            yield
        finally:
            self._cu.cuCtxSetCurrent(self._primary)
            self._cu.cuGreenCtxDestroy(green)

    def time(
        self, image: bytes, code: CudaCode, pointers: Mapping[str, int], workspace: int, count: int
    ) -> float:
        """Seconds of one run of a kernel on `count` multiprocessors, the median of several."""
        with self._part(count), ExitStack() as stack:
            module = self.call("cuModuleLoadData", image)
            stack.callback(self._cu.cuModuleUnload, module)
            stream = self.call(
                "cuStreamCreate", self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING.value
            )
            stack.callback(self._cu.cuStreamDestroy, stream)
            run = self._runner(module, stream, code, pointers, workspace)
            return self._time_graph(run, stream, stack)

    def _runner(
        self,
        module: Any,
        stream: Any,
        code: CudaCode,
        pointers: Mapping[str, int],
        workspace: int,
    ) -> Callable[[], None]:
        import ctypes

        prepared = []
        shared = self._cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for launch in code.launches:
            function = self.call("cuModuleGetFunction", module, launch.function.encode())
            if launch.shared_bytes > _SHARED_UNASKED:
                self.call("cuFuncSetAttribute", function, shared, launch.shared_bytes)
            kinds = tuple(
                getattr(ctypes, f"c_{one.dtype}") if isinstance(one, Scalar) else ctypes.c_void_p
                for one in launch.arguments
            )
            values = tuple(passed(one, pointers, workspace) for one in launch.arguments)
            parameters = (values, kinds)
            prepared.append((function, launch, parameters))

        def run() -> None:
            for function, launch, parameters in prepared:
                self.call(
                    "cuLaunchKernel",
                    function,
                    *launch.grid,
                    *launch.block,
                    launch.shared_bytes,
                    stream,
                    parameters,
                    0,
                )

        return run

    def _time_graph(self, run: Callable[[], None], stream: Any, stack: ExitStack) -> float:
        run()
        self.call("cuStreamSynchronize", stream)
        mode = self._cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.call("cuStreamBeginCapture", stream, mode)
        for _ in range(_LAUNCHES):
            run()
        graph = self.call("cuStreamEndCapture", stream)
        stack.callback(self._cu.cuGraphDestroy, graph)
        executable = self.call("cuGraphInstantiate", graph, 0)
        stack.callback(self._cu.cuGraphExecDestroy, executable)
        events = [self.call("cuEventCreate", 0) for _ in range(2)]
        for event in events:
            stack.callback(self._cu.cuEventDestroy, event)
        times = []
        for _ in range(_REPEATS):
            self.call("cuEventRecord", events[0], stream)
            self.call("cuGraphLaunch", executable, stream)
            self.call("cuEventRecord", events[1], stream)
            self.call("cuEventSynchronize", events[1])
            times.append(float(self.call("cuEventElapsedTime", *events)) * 1e-3 / _LAUNCHES)
        return sorted(times)[len(times) // 2]
