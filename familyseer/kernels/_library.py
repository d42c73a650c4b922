"""Loading a kernel library: the folder is checked, then its kernels are callable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from familyseer.kernels._manifest import Argument, Entry, Manifest, check_files, read_manifest


class Kernel:
    """A tuned kernel.

    Called with its inputs, it gives its output, or a tuple where it has several. Called with all
    its arguments, it writes the outputs that were given, and gives them back.

    Arrays are row-major and of the very shapes and element types that the kernel was tuned for.
    Kernels of a CPU library take NumPy arrays, and others in host memory that know DLPack. Those of
    a CUDA library take arrays in GPU memory (``__cuda_array_interface__`` or DLPack: PyCUDA, CuPy,
    PyTorch, TVM) and NumPy arrays, which are copied to the GPU and back. Made outputs are PyCUDA's
    arrays where an input is in GPU memory, and NumPy's otherwise. bfloat16 is taken as its bits
    (``uint16``) too, which NumPy alone can hold. An output may not share memory with another
    argument.

    A call raises TypeError for arrays of another number, kind or element type, ValueError for
    another shape or layout, and RuntimeError where the kernel itself fails.

    With ``stream=`` (a `pycuda.driver.Stream`) a CUDA kernel whose arguments are all in GPU memory
    is queued there, and the call does not wait for it. Calls of one kernel on several streams at a
    time are safe.

    Attributes
    ----------
    name
        The subgraph's.
    arguments
        In the order in which they are given.
    """

    def __init__(self, name: str, arguments: tuple[Argument, ...], run: Callable[..., Any]) -> None:
        self.name = name
        self.arguments = arguments
        self._run = run

    def __call__(self, *arrays: Any, stream: Any = None) -> Any:
        return self._run(*arrays, stream=stream)

    def __repr__(self) -> str:
        def listed(output: bool) -> str:
            return ", ".join(f"{a.name}: {a}" for a in self.arguments if a.output is output)

        return f"<Kernel {self.name}({listed(False)}) -> {listed(True)}>"


class Library:
    """The kernels of a folder, by name; see `load`.

    Attributes
    ----------
    names
        In the manifest's order, that with the most work in the model first.
    kind
        ``cpu`` or ``cuda``.
    arch
        What they were built for.
    """

    def __init__(self, manifest: Manifest, make: Callable[[Entry], Callable[..., Any]]) -> None:
        self.folder = manifest.folder
        self.kind = manifest.kind
        self.arch = manifest.arch
        self.names = tuple(manifest.entries)
        self._entries = manifest.entries
        self._make = make
        self._made: dict[str, Kernel] = {}

    def __getitem__(self, name: str) -> Kernel:
        if name not in self._entries:
            listed = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise KeyError(f"{self.folder} has no kernel {name!r}, expected one of {listed}")
        if name not in self._made:
            entry = self._entries[name]
            self._made[name] = Kernel(name, entry.arguments, self._make(entry))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<Library {self.folder}: {len(self)} kernels for {self.kind} {self.arch}>"


def load(folder: str | os.PathLike[str], *, device: int = 0) -> Library:
    """Loads what ``familyseer export OUT --kernels DIR`` wrote.

    A library is code: it is checked against its manifest, and who may write both is trusted.

    Parameters
    ----------
    folder
        DIR.
    device
        Number of the GPU that a CUDA library runs on, where the thread has no current CUDA context
        already; that GPU's primary context is then used, as TVM and PyTorch do.

    Raises
    ------
    ValueError
        It is no kernel library, a file was changed or cut short, or it is for another machine or
        GPU architecture; one line that says which.
    OSError
        A library cannot be loaded, or there is no GPU.
    ImportError
        It is a CUDA library, and PyCUDA is not installed.
    """
    manifest = read_manifest(Path(folder))
    check_files(manifest)
    if manifest.kind == "cpu":
        from familyseer.kernels._cpu import CpuKernel, open_library

        library = open_library(manifest)
        return Library(manifest, lambda entry: CpuKernel(library, manifest, entry))
    from familyseer.kernels._cuda import CudaKernel, Gpu

    gpu = Gpu(manifest, device)
    return Library(manifest, lambda entry: CudaKernel(gpu, manifest, entry))
