"""Sequences of kernel launches as data, which any runtime can carry out in order on one stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Argument = str | np.generic | None
"""An array's name, a scalar of exactly the parameter's type, or None for a null pointer."""


@dataclass(frozen=True)
class Buffer:
    """Device memory that a program needs.

    Attributes
    ----------
    name
        What launches call it.
    dtype, size
        Type and number of its elements.
    zeroed
        Whether it must be set to zero before the program's first launch, each time it is run.
    """

    name: str
    dtype: np.dtype[Any]
    size: int
    zeroed: bool = False


@dataclass(frozen=True)
class Launch:
    """One launch of an ``extern "C"`` kernel.

    Attributes
    ----------
    kernel
        Its name in the program's source.
    grid, block
        Thread blocks, and threads of each, along x, y, z.
    args
        In the order of the kernel's parameters.
    shared_bytes
        Dynamic shared memory.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Argument, ...]
    shared_bytes: int = 0


@dataclass(frozen=True)
class Program:
    """CUDA C++ text and the launches of its kernels.

    Attributes
    ----------
    source
        Depends on few sizes, so that its cubin can be kept.
    inputs
        Names of the arrays the caller brings, C-contiguous where nothing else is said.
    buffers
        What the caller allocates. Those it asks results from are named where the program is made.
    launches
        In order; each sees what the ones before have written.
    """

    source: str
    inputs: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    launches: tuple[Launch, ...]
