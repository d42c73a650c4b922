"""Runs the CUDA kernels of this project on the CPU, checked at every access, for tests.

`compile_kernels(text)` builds a `.cu` text with g++ as a `Kernels`, whose `launch` runs one of
them on NumPy arrays as a GPU would, or raises `EmulationError`. `run_program` carries out a whole
`spamm.cuda._launch.Program`. Needs g++ and Linux.
"""

from ._driver import EmulationError, Kernels, compile_kernels, needs_compiler, run_program

__all__ = ["EmulationError", "Kernels", "compile_kernels", "needs_compiler", "run_program"]
