"""What the tuner asks of a backend of `spamm`: its space, its features, its jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from familyseer.spamm_tasks._problem import Problem, Sizes
from familyseer.spamm_tasks._survey import Statistics

Values = Mapping[str, Any]


class Kind(Protocol):
    """A backend whose kernels are tuned.

    Attributes
    ----------
    backend
        Its name in `spamm`.
    device
        What configurations are measured on, as `spamm._tuned` keeps them by.
    configs
        The space, each configuration in plain values that JSON can hold.
    default
        The position of the one that is used where none was tuned.
    build_job, run_job, duel_job
        Functions for a worker process; see `familyseer.spamm_tasks._jobs`.
    """

    backend: str
    device: str
    default: int

    @property
    def configs(self) -> Sequence[Values]: ...

    @property
    def build_job(self) -> Callable[..., Any]: ...

    @property
    def run_job(self) -> Callable[..., list[float]]: ...

    @property
    def duel_job(self) -> Callable[..., dict[str, list[float]]]: ...

    def norms(self, array: Any, rows: int, columns: int) -> Any:
        """Frobenius norms of a host matrix's blocks."""

    def prior(self, config: Values, plan: Statistics, wanted: Statistics) -> float:
        """log2 of the estimated share of the machine's peak; `wanted` is the default plan."""

    def more_numbers(self, config: Values) -> list[float]:
        """Features beside the configuration's own numbers."""


def block_of(config: Values) -> Sizes:
    """SpAMM's blocks of a configuration in plain values."""
    bm, bk, bn = config["block"]
    return int(bm), int(bk), int(bn)


def text_of(config: Values) -> str:
    """Text that is equal for equal configurations."""
    return json.dumps(config, sort_keys=True)


def own_numbers(config: Values) -> list[float]:
    """A configuration's numbers in the order of its fields; logarithms, but truth values as such.

    Words are left out: they are the same for all configurations of a problem.
    """
    found: list[float] = []
    for value in config.values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, bool):
                found.append(float(each))
            elif isinstance(each, (int, float)):
                found.append(float(np.log2(1 + each)))
    return found


def kind_for(problem: Problem, target: Any) -> Kind:
    """The backend that a target's kernels come from.

    Raises
    ------
    UserError
        Kernels for that target cannot be measured on this machine, or there are none for the
        problem.
    """
    if str(target.kind.name) == "cuda":
        from familyseer.spamm_tasks._cuda import CudaKind

        return CudaKind(problem, target)
    from familyseer.spamm_tasks._cpu import CpuKind

    return CpuKind(problem, target)
