"""A tuned SpAMM kernel as what a kernel library holds: text, machine code, how to launch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from familyseer.spamm_tasks._kinds import Values


@dataclass(frozen=True)
class ExportedKernel:
    """One CUDA kernel.

    Attributes
    ----------
    name
        Its ``extern "C"`` name.
    arch
        What the code runs on, such as ``"sm_90"``.
    source, cubin
        CUDA C++ text and its machine code.
    threads, shared_bytes
        Of a thread block: threads, and dynamic shared memory to launch with.
    registers
        Of a thread.
    launch
        In plain values: the configuration, the tile of C that a thread block computes, the names of
        the arguments in order, and what the grid is: ``tiles`` (a thread block for each tile of C
        and part of ``split_k``) or ``resident`` (as many as the GPU holds, at most that).
    """

    name: str
    arch: str
    source: str
    cubin: bytes
    threads: int
    shared_bytes: int
    registers: int
    launch: dict[str, Any]


def exported_kernel(config: Values, arch: str) -> ExportedKernel:
    """The multiply kernel of a configuration, such as `spamm._tuned` keeps; needs no GPU.

    Raises
    ------
    ValueError
        It is no configuration, or none for this architecture; one line says why.
    RuntimeError
        nvrtc or CUDA's headers are missing, or the kernel does not compile.
    """
    from spamm.cuda._compile import compile_cubin, resources
    from spamm.cuda._config import MultiplyConfig
    from spamm.cuda._multiply import KERNEL_NAME, multiply_program, multiply_source

    made = MultiplyConfig.from_dict(dict(config))
    why = made.validate(arch)
    if why is not None:
        raise ValueError(f"configuration: {why}")
    source = multiply_source(made)
    cubin = compile_cubin(source, arch)
    # sizes that any kernel can be launched for: only the arguments' order and kinds are read
    m, k, n = made.block
    program = multiply_program(made, (m, k, n), (k, n, n), 1)
    names = ("a", "b", "c", "m", "k", "n", "lda", "ldb", "ldc", "offsets", "ks", "order")
    arguments = [*names, "tiles", "next"]
    (launch,) = program.launches
    if len(launch.args) != len(arguments):
        raise RuntimeError(f"{KERNEL_NAME}: {len(launch.args)} arguments, {len(arguments)} known")
    return ExportedKernel(
        KERNEL_NAME,
        arch,
        source,
        cubin,
        made.threads,
        made.shared_bytes,
        resources(cubin)[KERNEL_NAME].registers,
        {
            "config": made.to_dict(),
            "tile": list(made.tile[:2]),
            "arguments": arguments,
            "grid": "resident" if made.persistent else "tiles",
            "zero_first": made.split_k > 1,
        },
    )
