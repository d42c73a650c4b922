"""What workers do with whole models: run a library, time some, run an ONNX file.

They run in a worker process because a library with a wrong kernel may crash whoever runs it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from familyseer.tvm_env import load_tvm

# so many times as slow as the fastest: cold caches and threads that sleep matter little to it
_SLOW = 4.0


class _Library:
    def __init__(self, path: str, device_type: str) -> None:
        self.tvm = load_tvm()
        self.device = self.tvm.runtime.device(device_type, 0)
        lib = self.tvm.runtime.load_module(path)
        self.vm = self.tvm.relax.VirtualMachine(lib, self.device)
        self.main = self.vm["main"]

    def tensors(self, inputs: list[Any]) -> list[Any]:
        return [self.tvm.runtime.tensor(x, device=self.device) for x in inputs]

    def time_once(self, tensors: list[Any]) -> float:
        began = time.perf_counter()
        self.main(*tensors)
        self.device.sync()
        return time.perf_counter() - began


def run_library(path: str, device_type: str, inputs: list[Any]) -> list[Any]:
    """Runs a library's ``main`` once; the outputs come back as NumPy arrays, flattened."""
    return run_timed(path, device_type, inputs)[0]


def run_timed(path: str, device_type: str, inputs: list[Any]) -> tuple[list[Any], float]:
    """As `run_library`, with the seconds that this one run took, cold as it was."""
    library = _Library(path, device_type)
    tensors = library.tensors(inputs)
    began = time.perf_counter()
    result = library.main(*tensors)
    library.device.sync()
    seconds = time.perf_counter() - began
    return [tensor.numpy() for tensor in flatten(result)], seconds


def flatten(value: Any) -> list[Any]:
    """The tensors of a result, which may be tuples in tuples, in order."""
    if hasattr(value, "numpy"):
        return [value]
    return [tensor for part in value for tensor in flatten(part)]


def time_libraries(
    paths: Mapping[str, str],
    device_type: str,
    inputs: list[Any],
    repeats: int,
    time_s: float,
) -> dict[str, list[float]]:
    """Seconds of whole-model runs, the libraries taking turns so that noise meets all alike.

    Each runs at least once after a warm-up, at most `repeats` times, and no new turn begins after
    `time_s` seconds. One that takes longer than that in its warm-up is not run again. In its turn a
    library first runs once more, as what ran before shows in its time: right after an untuned one,
    the same library was slower by 4 to 12 % than after its like. The slow ones can do without.
    """
    libraries = {name: _Library(path, device_type) for name, path in paths.items()}
    # one set for all: a large model's weights are among them
    tensors = next(iter(libraries.values())).tensors(inputs) if libraries else []
    times: dict[str, list[float]] = {name: [] for name in libraries}
    latest: dict[str, float] = {}
    began = time.perf_counter()
    for name, library in list(libraries.items()):
        latest[name] = seconds = library.time_once(tensors)
        if seconds > time_s:
            times[name].append(seconds)
            del libraries[name]
            began += seconds
    for turn in range(repeats):
        if turn and time.perf_counter() - began > time_s:
            break
        for name, library in libraries.items():
            if len(libraries) > 1 and latest[name] <= _SLOW * min(latest.values()):
                library.time_once(tensors)
            latest[name] = library.time_once(tensors)
            times[name].append(latest[name])
    return times


def time_calls(
    path: str, device_type: str, inputs: list[Any], repeats: int
) -> dict[str, list[list[float]]]:
    """Seconds of every call that a library's ``main`` makes: by name, a list a run.

    What a function calls itself is not in its own time. The device is waited for before and after
    each call, which on a GPU takes away the overlap that a whole run has.
    """
    library = _Library(path, device_type)
    tensors = library.tensors(inputs)
    library.time_once(tensors)
    runs: list[dict[str, list[float]]] = []
    # of the calls that have begun: when, and how long what they called took
    open_calls: list[list[float]] = []

    def instrument(func: Any, name: str, before: bool, result: Any, *args: Any) -> None:
        library.device.sync()
        if before:
            open_calls.append([time.perf_counter(), 0.0])
            return
        now = time.perf_counter()
        began, inside = open_calls.pop()
        if open_calls:
            open_calls[-1][1] += now - began
        runs[-1].setdefault(str(name), []).append(now - began - inside)

    library.vm.set_instrument(instrument)
    # the first run brings the instrument itself into the caches
    for _ in range(repeats + 1):
        runs.append({})
        library.time_once(tensors)
    return {name: [run.get(name, []) for run in runs[1:]] for name in runs[1]}


def run_onnx(path: str, inputs: Mapping[str, Any]) -> list[Any]:
    """Runs an ONNX file once in ONNX Runtime on the CPU; the outputs as NumPy arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # only what the file says: its optimisations are a compiler too
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [_dense(value) for value in session.run(None, dict(inputs))]


def _dense(value: Any) -> Any:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise TypeError("an output is not a tensor")
    return value
