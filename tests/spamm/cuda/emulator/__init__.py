"""Runs the CUDA kernels of this project on the CPU, checked at every access, for tests.

`compile_kernels(text)` builds a `.cu` text with g++ as a `Kernels`, whose `launch` runs one of
them on NumPy arrays as a GPU would, or raises `EmulationError`. Needs g++ and Linux.
"""

from ._driver import EmulationError, Kernels, compile_kernels, needs_compiler

__all__ = ["EmulationError", "Kernels", "compile_kernels", "needs_compiler"]
