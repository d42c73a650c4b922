"""What workers do with whole libraries: run one, time some, compare one subgraph's schedules.

They run in a worker process because a library with a wrong kernel may crash whoever runs it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from familyseer.tvm_env import load_tvm


class _Library:
    def __init__(self, path: str, device_type: str) -> None:
        self.tvm = load_tvm()
        self.device = self.tvm.runtime.device(device_type, 0)
        lib = self.tvm.runtime.load_module(path)
        self.vm = self.tvm.relax.VirtualMachine(lib, self.device)
        self.main = self.vm["main"]

    def tensors(self, inputs: list[Any]) -> list[Any]:
        return [self.tvm.runtime.tensor(_compact(x), device=self.device) for x in inputs]

    def time_once(self, tensors: list[Any]) -> float:
        began = time.perf_counter()
        self.main(*tensors)
        self.device.sync()
        return time.perf_counter() - began


def _compact(array: Any) -> Any:
    import numpy as np

    # numpy gives axes of length 1 strides that TVM's check for a compact tensor refuses
    return np.ascontiguousarray(array).reshape(array.shape).copy()


def run_library(path: str, device_type: str, inputs: list[Any]) -> list[Any]:
    """Runs a library's ``main`` once; the outputs come back as NumPy arrays, flattened."""
    library = _Library(path, device_type)
    return _flatten(library.main(*library.tensors(inputs)))


def _flatten(value: Any) -> list[Any]:
    if hasattr(value, "numpy"):
        return [value.numpy()]
    return [array for part in value for array in _flatten(part)]


def time_libraries(
    paths: Mapping[str, str],
    device_type: str,
    inputs: list[Any],
    repeats: int,
    time_s: float,
) -> dict[str, list[float]]:
    """Seconds of whole-model runs, the libraries taking turns so that noise meets all alike.

    Each runs at least once after a warm-up, at most `repeats` times, and no new turn begins after
    `time_s` seconds.
    """
    began = time.perf_counter()
    libraries = {name: _Library(path, device_type) for name, path in paths.items()}
    tensors = {name: library.tensors(inputs) for name, library in libraries.items()}
    for name, library in libraries.items():
        library.time_once(tensors[name])
    times: dict[str, list[float]] = {name: [] for name in libraries}
    for turn in range(repeats):
        if turn and time.perf_counter() - began > time_s:
            break
        for name, library in libraries.items():
            times[name].append(library.time_once(tensors[name]))
    return times


def compare_schedules(mod: Any, scheduled: Any, target: Any, seed: int) -> float:
    """Largest relative error of a scheduled subgraph against the unscheduled one.

    On random inputs; relative to the largest magnitude in the unscheduled result.
    """
    import numpy as np

    from familyseer.export._verify import relative_error

    tvm = load_tvm(intrinsics=True)
    drop = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)
    libraries = [tvm.driver.build(drop(m), target=target) for m in (mod, scheduled)]
    rng = np.random.default_rng(seed)
    arrays = []
    for info in tvm.s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func(mod, False):
        shape, dtype = tuple(int(d) for d in info.shape), str(info.dtype)
        if "float" in dtype:
            arrays.append(rng.standard_normal(shape).astype(dtype))
        else:
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
    results = []
    for library in libraries:
        tensors = [tvm.runtime.tensor(_compact(a)) for a in arrays]
        library["main"](*tensors)
        results.append([t.numpy() for t in tensors])
    return max(relative_error(got, ref) for got, ref in zip(results[1], results[0], strict=True))
