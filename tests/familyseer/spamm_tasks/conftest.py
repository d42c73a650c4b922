"""A small problem on this machine's CPU, shared by the tests of one process."""

from __future__ import annotations

from typing import Any

import pytest

from familyseer.spamm_tasks import Problem
from familyseer.spamm_tasks._cpu import CpuKind
from familyseer.spamm_tasks._task import SpammTask
from spamm.generators import exponential_decay


@pytest.fixture(scope="session")
def matrices() -> tuple[Any, Any]:
    return exponential_decay(256, base=0.95, seed=0), exponential_decay(256, base=0.95, seed=1)


@pytest.fixture(scope="session")
def problem(matrices: tuple[Any, Any]) -> Problem:
    return Problem.of(*matrices, 0.25, None)


@pytest.fixture(scope="session")
def kind(problem: Problem, cpu: Any) -> CpuKind:
    return CpuKind(problem, cpu)


@pytest.fixture(scope="session")
def task(problem: Problem, kind: CpuKind, matrices: tuple[Any, Any]) -> SpammTask:
    return SpammTask(problem, kind, *matrices)
