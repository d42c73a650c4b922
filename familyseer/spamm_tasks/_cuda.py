"""The kernels that `spamm.cuda` generates, as a space to tune over."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from familyseer.errors import UserError
from familyseer.measure._failures import TimeLimitError, WorkerError, one_line
from familyseer.measure._gpus import can_run
from familyseer.measure._workers import WorkerPool
from familyseer.spamm_tasks import _cuda_jobs
from familyseer.spamm_tasks._kinds import Values, block_of, text_of
from familyseer.spamm_tasks._problem import Problem
from familyseer.spamm_tasks._survey import Statistics
from familyseer.tvm_env import load_tvm

# starting the driver on a host with many GPUs takes seconds
_DESCRIBE_S = 60.0


class CudaKind:
    """This host's first GPU; see `familyseer.spamm_tasks._kinds.Kind`.

    Parameters
    ----------
    gpu
        Its name as `spamm` keeps configurations by and its architecture; by default it is asked.

    Raises
    ------
    UserError
        There is no GPU that `spamm` can use, it cannot run code for the target, or no kernel fits
        the problem.
    """

    backend = "cuda"
    run_job = staticmethod(_cuda_jobs.run_on_cuda)
    duel_job = staticmethod(_cuda_jobs.duel_on_cuda)

    def __init__(self, problem: Problem, target: Any, gpu: tuple[str, str] | None = None) -> None:
        load_tvm()
        from spamm.cuda._config import MultiplyConfig
        from spamm.cuda._runtime_choice import unit_of
        from spamm.cuda._space import DEFAULT_BLOCK, default, space

        self.device, arch = _describe() if gpu is None else gpu
        wanted = str(target.attrs["arch"])
        if not can_run(arch, wanted):
            raise UserError(
                f"target {wanted}: its code does not run on this host's {self.device}; "
                "expected a target of that architecture, such as cuda"
            )
        dtype, unit = problem.dtype, unit_of(problem.dtype, problem.precision)
        if problem.precision is not None and dtype != "float32":
            raise UserError(f"precision {problem.precision}: expected float32, got {dtype}")
        try:
            usual = default(dtype, arch, problem.block or DEFAULT_BLOCK, out=dtype, unit=unit)
            configs = space(dtype, arch, out=dtype, unit=unit, block=problem.block)
        except ValueError as error:
            raise UserError(str(error)) from None
        unique = {text_of(config.to_dict()): config for config in (usual, *configs)}
        self._by_text: dict[str, MultiplyConfig] = unique
        self.default = 0
        self.configs = [config.to_dict() for config in unique.values()]
        self._arch = arch

    @property
    def build_job(self) -> Callable[..., Any]:
        """Compiles for this GPU."""
        return functools.partial(_cuda_jobs.build_for_cuda, self._arch)

    def norms(self, array: Any, rows: int, columns: int) -> Any:
        """Frobenius norms of a host matrix's blocks."""
        from spamm import cpu

        return cpu.norms(array, rows, columns)

    def prior(self, config: Values, plan: Statistics, wanted: Statistics) -> float:
        """From the bytes that tiles bring from memory and the products that they make in vain."""
        made, block = self._by_text[text_of(config)], block_of(config)
        tile_m, tile_n, _ = made.tile
        # neighbours in a tile share most of their lists where matrices decay
        volume = max(plan.blocks_valid * block[0] * block[1] * block[2], 1.0)
        loads = volume * (1 / min(tile_m, 2 * block[0]) + 1 / min(tile_n, 2 * block[2]))
        return math.log2(max(wanted.flops / 2, 1.0) / (volume + _LOAD_COST * loads))

    def more_numbers(self, config: Values) -> list[float]:
        """Blocks in a tile, registers, a warp's tile, a thread block's threads and memory."""
        made = self._by_text[text_of(config)]
        rows, columns = made.warp_tile
        shared = made.shared_bytes + made.list_bytes
        return [
            float(made.blocks_in_tile),
            float(made.registers),
            math.log2(rows * columns),
            math.log2(made.threads),
            math.log2(shared),
        ]


# an element that is loaded costs about as much as so many multiply-adds of tensor cores
_LOAD_COST = 16.0


def _describe() -> tuple[str, str]:
    """Name and architecture of this host's first GPU, told by a process that is gone afterwards."""
    with WorkerPool(1) as pool:
        try:
            name, arch = pool.submit(_cuda_jobs.describe_gpu, timeout_s=_DESCRIBE_S).result()
        except (ImportError, RuntimeError, OSError, WorkerError, TimeLimitError) as error:
            raise UserError(
                "no CUDA GPU can be used here (familyseer doctor says what is missing): expected "
                f"one to measure on ({one_line(str(error))})"
            ) from None
    return str(name), str(arch)
