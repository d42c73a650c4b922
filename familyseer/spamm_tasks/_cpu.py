"""The kernels that `spamm.cpu` generates, as a space to tune over."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from familyseer.errors import UserError
from familyseer.spamm_tasks import _jobs
from familyseer.spamm_tasks._kinds import Values, block_of, text_of
from familyseer.spamm_tasks._problem import Problem
from familyseer.spamm_tasks._survey import Statistics
from familyseer.tvm_env import load_tvm


class CpuKind:
    """This machine's CPU; see `familyseer.spamm_tasks._kinds.Kind`.

    Raises
    ------
    UserError
        The target is another CPU, whose kernels cannot be measured here, or the backend does not
        know the problem's type.
    """

    backend = "cpu"
    build_job = staticmethod(_jobs.build_on_cpu)
    run_job = staticmethod(_jobs.run_on_cpu)
    duel_job = staticmethod(_jobs.duel_on_cpu)

    def __init__(self, problem: Problem, target: Any) -> None:
        load_tvm()
        from spamm.cpu import _choice
        from spamm.cpu._config import ACCUMULATORS, config_for, default_config, host_target, space

        here = host_target()
        names = [str(each.attrs.get("mcpu", "")) for each in (here, target)]
        if str(target.kind.name) != "llvm" or names[0] != names[1]:
            raise UserError(
                f"target {target}: SpAMM's kernels are measured where they run; "
                "expected llvm for this machine's CPU, or cuda"
            )
        if problem.precision is not None:
            raise UserError(
                f"precision {problem.precision}: expected it with a CUDA target, as CPUs multiply "
                "float32 as it is"
            )
        dtype = problem.dtype
        if dtype not in ACCUMULATORS:
            raise UserError(f"dtype {dtype}: expected one of {', '.join(ACCUMULATORS)}")
        self.device = _choice.device()
        default = default_config(dtype, here)
        configs = space(dtype, here)
        if problem.block is not None:
            default = config_for(problem.block, dtype, here)
            # tile, unrolling and depth matter with given blocks; those of the space do not
            configs = [replace(config, block=problem.block) for config in configs]
        unique = {text_of(_plain(config)): config for config in (default, *configs)}
        self.default = 0
        self._configs = list(unique.values())
        self.configs = [_plain(config) for config in self._configs]
        self._by_text = dict(zip(unique, self._configs, strict=True))

    def norms(self, array: Any, rows: int, columns: int) -> Any:
        """Frobenius norms of a matrix's blocks."""
        from spamm import cpu

        return cpu.norms(array, rows, columns)

    def prior(self, config: Values, plan: Statistics, wanted: Statistics) -> float:
        """From the generator's own count of a micro-kernel's cycles."""
        made = self._by_text[text_of(config)]
        block = block_of(config)
        cycles = max(plan.blocks_valid * block[1] * made.cycles(block), 1.0)
        # two multiply-adds of a vector in a cycle, two operations each
        best = wanted.flops / (4 * made.lanes)
        return math.log2(max(best, 1.0) / cycles)

    def more_numbers(self, config: Values) -> list[float]:
        """What the tile wastes of the block, and its balance of multiplications and loads."""
        made, (bm, _, bn) = self._by_text[text_of(config)], block_of(config)
        covered = -(-bm // made.rows) * made.rows * -(-bn // made.columns) * made.columns
        tile = made.rows * made.vectors
        return [covered / (bm * bn), tile / (made.rows + made.vectors), float(tile)]


def _plain(config: Any) -> dict[str, Any]:
    return {**asdict(config), "block": list(config.block)}
