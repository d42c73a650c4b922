"""Which of a kernel's binaries a GPU can run."""

from __future__ import annotations

import re

from familyseer.kernels._manifest import CudaCode, Manifest

_ARCH = re.compile(r"(?:sm|compute)_(\d+)(\d)([af]?)\Z")


def runs_cubin(arch: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs a cubin.

    A cubin runs on its compute capability and later ones of the same major number; one with the
    suffix ``a`` on its own capability alone (CUDA C++ Programming Guide, "Compute Capabilities").

    Parameters
    ----------
    arch
        What it was built for, such as ``sm_90`` or ``sm_90a``.
    capability
        Of the GPU, major and minor number.
    """
    found = _ARCH.match(arch)
    if found is None:
        return False
    major, minor, suffix = int(found[1]), int(found[2]), found[3]
    if suffix == "a":
        return capability == (major, minor)
    return capability[0] == major and capability[1] >= minor


def runs_ptx(arch: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs PTX of a virtual architecture without suffix, such as ``compute_90``."""
    found = _ARCH.match(arch)
    return found is not None and not found[3] and capability >= (int(found[1]), int(found[2]))


def choose_binary(manifest: Manifest, code: CudaCode, capability: tuple[int, int]) -> str:
    """The file to load on a GPU: the cubin where it runs, else PTX for the driver to compile.

    Raises
    ------
    ValueError
        Neither runs there; one line.
    """
    if runs_cubin(manifest.arch, capability):
        return code.cubin
    if code.ptx is not None and runs_ptx(str(code.ptx_arch), capability):
        return code.ptx
    later = f", or PTX for {code.ptx_arch} and later" if code.ptx else ""
    raise ValueError(
        f"{manifest.folder}: kernels for {manifest.arch[:40]}{later}; this GPU is "
        f"sm_{capability[0]}{capability[1]}"
    )
