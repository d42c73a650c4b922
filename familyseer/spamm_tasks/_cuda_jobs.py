"""What workers do for kernels of `spamm.cuda`: compile one without a GPU, time one on a GPU."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.measure._jobs import Refused
from familyseer.measure._timing import MOST_SETS, RunPlan
from familyseer.spamm_tasks._jobs import check_product, read_operands, time_product, write_candidate

_REGISTERS = 65536
# registers are given to a warp in units of so many a thread
_REGISTER_UNIT = 8
# candidates that this process has found right
_CHECKED: set[str] = set()


def describe_gpu() -> tuple[str, str]:
    """What `spamm` keeps configurations of this process's first GPU by, and its architecture.

    Raises
    ------
    ImportError
        PyCUDA or the driver is missing, or there is no GPU.
    """
    from spamm.cuda._device import devices
    from spamm.cuda._runtime_choice import device_name

    first = devices()[0]
    return device_name(first), first.arch


def build_for_cuda(
    arch: str,
    config: Mapping[str, Any],
    tau: float,
    dtype: str,
    own: str,
    kernels: str,
    operands: str,
) -> tuple[str, float] | Refused:
    """Compiles a configuration's kernel and writes the candidate's file; needs no GPU.

    A kernel that spills, or has too many registers for its threads to be launched, is refused.

    Parameters
    ----------
    arch
        Such as ``"sm_90"``.
    own, kernels, operands
        As for `familyseer.spamm_tasks._jobs.build_on_cpu`.
    """
    from spamm.cuda._compile import CompileError, compile_cubin, resources
    from spamm.cuda._config import MultiplyConfig
    from spamm.cuda._multiply import KERNEL_NAME, multiply_source

    began = time.perf_counter()
    made = MultiplyConfig.from_dict(dict(config))
    why = made.validate(arch)
    if why is not None:
        return Refused(why)
    try:
        cubin = compile_cubin(multiply_source(made), arch, cache=Path(kernels))
    except CompileError as error:
        return Refused(str(error))
    used = resources(cubin)[KERNEL_NAME]
    if used.spills:
        return Refused(f"spills {used.local_bytes + used.stack_bytes} bytes a thread")
    registers = -(-used.registers // _REGISTER_UNIT) * _REGISTER_UNIT
    if registers * made.threads > _REGISTERS:
        return Refused(f"{used.registers} registers for each of {made.threads} threads")
    return write_candidate(own, config, tau, operands), time.perf_counter() - began


def run_on_cuda(path: str, _kernels: str, plan: RunPlan) -> list[float]:
    """Times a candidate on this process's first GPU; as `familyseer.spamm_tasks._jobs.run_on_cpu`.

    Raises
    ------
    ValueError
        The product is wrong.
    """
    from spamm.cuda._device import devices

    config, tau, operands = _candidate(path)
    device: Any = devices()[0]
    sets = _operand_sets(device, operands, plan.working_set_bytes)
    product = product_on(device, config, tau)
    if path not in _CHECKED:
        plan_of = product(*sets[0])
        tf32 = config.dtype == "float32" and config.unit == "tensor"
        found = _fetch(device, sets[0][2])
        check_product(found, plan_of(), *read_operands(operands), tf32=tf32)
        _CHECKED.add(path)
    return time_product(product, sets, plan, device.synchronize)


def duel_on_cuda(paths: Mapping[str, str], _kernels: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each of some candidates, measured in turns, a number a round."""
    from spamm._timing import in_turns
    from spamm.cuda._device import devices

    device: Any = devices()[0]
    runs = {}
    for name, path in paths.items():
        config, tau, operands = _candidate(path)
        (operand_set, *_) = _operand_sets(device, operands, 0)
        runs[name] = functools.partial(product_on(device, config, tau), *operand_set)
    return in_turns(runs, rounds, finish=device.synchronize)


def product_on(
    device: Any, config: Any, tau: float
) -> Callable[[Any, Any, Any], Callable[[], Any]]:
    """What multiplies on a `spamm.cuda._device.Device` by a configuration, planning included.

    The result takes three `spamm.cuda._interop.View`; C is overwritten in the stream's order. It
    gives what waits for the plan.
    """
    from spamm._plan import grid
    from spamm.cuda import _runtime_engine as engine
    from spamm.cuda._device import LOCK

    least = engine.tau_span(device, tau)

    def product(a: Any, b: Any, c: Any) -> Callable[[], Any]:
        shape = *a.shape, b.shape[1]
        with LOCK, device.current():
            norms = engine.norms_of_both(a, b, config.block)
            tiling = engine.tiling_of(config, shape)
            lists = engine.make_lists(device, grid(shape, config.block), tiling, *norms, least)
            engine.multiply(a, b, c, lists, config)
        return lambda: engine.host_plan(device, lists, shape, config.block, *norms, least)

    return product


def _candidate(path: str) -> tuple[Any, float, str]:
    from spamm.cuda._config import MultiplyConfig

    document = json.loads(Path(path).read_text(encoding="utf-8"))
    config = MultiplyConfig.from_dict(document["config"])
    return config, float(document["tau"]), str(document["operands"])


@functools.lru_cache(maxsize=1)
def _operand_sets(device: Any, folder: str, touched_bytes: int) -> list[list[Any]]:
    """Sets of A, B and C on a device, as large together as what is touched between two products."""
    a, b = read_operands(folder)
    size = a.nbytes + b.nbytes + len(a) * b.shape[1] * a.itemsize
    copies = max(1, min(MOST_SETS, -(-touched_bytes // max(size, 1))))
    return [_upload(device, a, b) for _ in range(copies)]


def _upload(device: Any, a: Any, b: Any) -> list[Any]:
    from spamm.cuda._runtime_engine import new_matrix

    made = []
    for matrix in (a, b):
        view = new_matrix(device, matrix.shape, matrix.dtype.name)
        device.upload(view.address, np.ascontiguousarray(matrix))
        made.append(view)
    return [*made, new_matrix(device, (len(a), b.shape[1]), a.dtype.name)]


def _fetch(device: Any, matrix: Any) -> Any:
    from spamm.cuda._device import fetch_array
    from spamm.cuda._interop import host_type

    return fetch_array(device, matrix.span, host_type(matrix.dtype))().reshape(matrix.shape)
