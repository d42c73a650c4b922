"""Libraries of tuned kernels: what `familyseer export` writes, loaded without TVM.

Needs NumPy, and PyCUDA where a library is for GPUs.
"""

from familyseer.kernels._library import Kernel, Library, load
from familyseer.kernels._manifest import Argument
from familyseer.kernels._multiprocessors import measure_multiprocessors

__all__ = ["Argument", "Kernel", "Library", "load", "measure_multiprocessors"]
