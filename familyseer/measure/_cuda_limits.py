"""What a multiprocessor of each CUDA architecture holds, and how many blocks of a kernel fit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

WARP = 32
# of every architecture since sm_50
MOST_GRID = (2**31 - 1, 65535, 65535)
MOST_BLOCK = (1024, 1024, 64)
# allocated in units: registers to a warp, shared memory to a block
_REGISTER_UNIT = 256
_SCHEDULERS = 4


@dataclass(frozen=True)
class Architecture:
    """Limits of one compute capability; those that all of them share are constants here.

    Attributes
    ----------
    name
        Such as ``sm_90``.
    threads, blocks
        That may be resident on a multiprocessor.
    shared_bytes
        Shared memory of a multiprocessor.
    reserved_bytes
        Of it, what the driver takes for each block.
    shared_unit
        Bytes that a block's shared memory is rounded up to.
    block_threads, block_registers, thread_registers
        The most of one block and of one thread.
    """

    name: str
    threads: int
    blocks: int
    shared_bytes: int
    reserved_bytes: int = 1024
    shared_unit: int = 128
    block_threads: int = 1024
    block_registers: int = 65536
    thread_registers: int = 255

    @property
    def block_shared_bytes(self) -> int:
        """The most shared memory of a block that opts in to it, static and dynamic together."""
        return self.shared_bytes - self.reserved_bytes


def _before_ampere(name: str, threads: int, blocks: int, kib: int) -> Architecture:
    return Architecture(name, threads, blocks, kib << 10, reserved_bytes=0, shared_unit=256)


# from "Technical Specifications per Compute Capability" of the CUDA C++ Programming Guide
_KNOWN = {
    one.name: one
    for one in (
        _before_ampere("sm_70", 2048, 32, 96),
        _before_ampere("sm_72", 2048, 32, 96),
        _before_ampere("sm_75", 1024, 16, 64),
        Architecture("sm_80", 2048, 32, 164 << 10),
        Architecture("sm_86", 1536, 16, 100 << 10),
        Architecture("sm_87", 1536, 16, 164 << 10),
        Architecture("sm_89", 1536, 24, 100 << 10),
        Architecture("sm_90", 2048, 32, 228 << 10),
        Architecture("sm_100", 2048, 32, 228 << 10),
        Architecture("sm_103", 2048, 32, 228 << 10),
        Architecture("sm_110", 1536, 24, 228 << 10),
        Architecture("sm_120", 1536, 24, 100 << 10),
        Architecture("sm_121", 1536, 24, 100 << 10),
    )
}


def architecture(arch: str) -> Architecture | None:
    """The limits of an architecture by TVM's or nvcc's name; None for one unknown here.

    A suffix of features (``sm_90a``, ``sm_100f``) changes none of them.
    """
    found = re.fullmatch(r"(sm_\d+)[a-z]?", arch)
    return _KNOWN.get(found.group(1)) if found else None


@dataclass(frozen=True)
class Kernel:
    """One kernel of a candidate: how it is launched and what the compiler gave it.

    Attributes
    ----------
    name
        In the CUDA source.
    grid, block
        Blocks of the launch and threads of a block, along x, y and z.
    registers
        Of a thread.
    stack_bytes
        Local memory of a thread: what did not fit into registers, and arrays that are indexed.
    static_bytes, dynamic_bytes
        Shared memory of a block, as declared and as asked for at launch.
    spill_bytes
        Registers of a thread that are written to its local memory and read again, in bytes of both;
        0 where the compiler does not tell.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    registers: int
    stack_bytes: int
    static_bytes: int
    dynamic_bytes: int
    spill_bytes: int = 0

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return math.prod(self.block)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.static_bytes + self.dynamic_bytes


def resident_blocks(kernel: Kernel, on: Architecture) -> int:
    """Blocks of a kernel that a multiprocessor holds at a time; 0 if it cannot be launched.

    The rules are those of NVIDIA's ``cuda_occupancy.h``.
    """
    warps = math.ceil(kernel.threads / WARP)
    fits = 0 < kernel.threads <= on.block_threads and kernel.registers <= on.thread_registers
    if not fits or not _within(kernel.grid, MOST_GRID) or not _within(kernel.block, MOST_BLOCK):
        return 0
    fit = [on.blocks, on.threads // WARP // warps]
    if kernel.registers:
        per_warp = _up(kernel.registers * WARP, _REGISTER_UNIT)
        # the hardware checks a launch as if every scheduler got as many warps
        if per_warp * _up(warps, _SCHEDULERS) > on.block_registers:
            return 0
        fit.append(on.block_registers // _SCHEDULERS // per_warp * _SCHEDULERS // warps)
    shared = _up(kernel.shared_bytes + on.reserved_bytes, on.shared_unit)
    if kernel.shared_bytes > on.block_shared_bytes:
        return 0
    if shared:
        fit.append(on.shared_bytes // shared)
    return min(fit)


def occupancy(kernel: Kernel, on: Architecture) -> float:
    """Share of a multiprocessor's warp slots that a kernel can fill, 0 to 1."""
    warps = math.ceil(kernel.threads / WARP)
    return resident_blocks(kernel, on) * warps / (on.threads // WARP)


def _within(extents: tuple[int, int, int], most: tuple[int, int, int]) -> bool:
    return all(0 < extent <= limit for extent, limit in zip(extents, most, strict=True))


def _up(value: int, unit: int) -> int:
    return math.ceil(value / unit) * unit


@dataclass(frozen=True)
class Resources:
    """What a candidate takes of a GPU, as its compiler says.

    Attributes
    ----------
    registers
        Of a thread, the most over the candidate's kernels.
    local_bytes
        What threads spill and keep on their stacks (`local_bytes`).
    shared_bytes
        Shared memory of a block, the most over the kernels.
    occupancy
        Of the kernel that has most threads, 0 to 1; 0 if it cannot be launched, and on an
        architecture unknown here.
    """

    registers: int
    local_bytes: int
    shared_bytes: int
    occupancy: float

    @classmethod
    def of(cls, kernels: tuple[Kernel, ...], arch: str) -> Resources | None:
        """Those of a candidate's kernels on an architecture; None if its kernels are not known."""
        if not kernels:
            return None
        on = architecture(arch)
        largest = max(kernels, key=lambda kernel: math.prod(kernel.grid) * kernel.threads)
        return cls(
            max(kernel.registers for kernel in kernels),
            local_bytes(kernels),
            max(kernel.shared_bytes for kernel in kernels),
            0.0 if on is None else occupancy(largest, on),
        )


# a thread that keeps more in local memory than it can have registers works from memory
MOST_STACK_BYTES = 4 * 255


def refusal(kernels: tuple[Kernel, ...], arch: str) -> str | None:
    """Why a candidate is not worth running, in one line; None if it is.

    Parameters
    ----------
    kernels
        All that the candidate launches.
    arch
        What they were compiled for. Of an architecture unknown here only local memory is looked at.
    """
    return cannot_launch(kernels, arch) or next(filter(None, map(_in_memory, kernels)), None)


def cannot_launch(kernels: tuple[Kernel, ...], arch: str) -> str | None:
    """Why a GPU of an architecture cannot run a candidate, in one line; None if it can."""
    on = architecture(arch)
    for kernel in kernels:
        if on is not None and resident_blocks(kernel, on) == 0:
            return f"{kernel.name} cannot be launched on {on.name}: {_excess(kernel, on)}"
    return None


def local_bytes(kernels: tuple[Kernel, ...]) -> int:
    """How much of each thread's work goes through memory for want of registers, in bytes.

    To compare candidates of a subgraph by: what is spilled, and what lies on the stack.
    """
    return sum(kernel.spill_bytes + kernel.stack_bytes for kernel in kernels)


def _in_memory(kernel: Kernel) -> str | None:
    if kernel.spill_bytes:
        return f"{kernel.name} spills: {kernel.spill_bytes} bytes of each thread's registers"
    if kernel.stack_bytes > MOST_STACK_BYTES:
        return (
            f"{kernel.name} keeps {kernel.stack_bytes} bytes of each thread in local memory, "
            f"more than {MOST_STACK_BYTES}"
        )
    return None


def _excess(kernel: Kernel, on: Architecture) -> str:
    for what, extents, most in (
        ("blocks", kernel.grid, MOST_GRID),
        ("threads a block", kernel.block, MOST_BLOCK),
    ):
        if not _within(extents, most):
            return f"{what} are {extents} along x, y and z, {most} are possible"
    if not 0 < kernel.threads <= on.block_threads:
        return f"{kernel.threads} threads a block, 1 to {on.block_threads} are possible"
    if kernel.shared_bytes > on.block_shared_bytes:
        return (
            f"{kernel.shared_bytes} bytes of shared memory a block, {on.block_shared_bytes} are "
            "possible"
        )
    return (
        f"{kernel.registers} registers for each of {kernel.threads} threads, a block has "
        f"{on.block_registers}"
    )
