"""What nvrtc says of kernels that it compiled: how much of each thread's registers is spilled.

A cubin tells the size of a kernel's stack only, in which spilled registers lie beside arrays whose
index the compiler could not know. The compiler's log tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SPILLS = re.compile(
    r"Function properties for (\S+)\s*\n\D*\d+ bytes stack frame, "
    r"(\d+) bytes spill stores, (\d+) bytes spill loads"
)


@contextmanager
def compiler_logs() -> Iterator[list[str]]:
    """Collects what nvrtc says of each program of this process while it is open.

    TVM has it tell of registers (``--ptxas-options=-v``) and reads the log of those programs alone
    that do not compile. So it is read here, when TVM lets a program go. Nothing is collected where
    TVM is told to use nvcc.
    """
    logs: list[str] = []
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        yield logs
        return
    let_go = nvrtc.nvrtcDestroyProgram

    def read_and_let_go(program: Any) -> Any:
        status, size = nvrtc.nvrtcGetProgramLogSize(program)
        text = bytearray(size)
        if int(status) == 0 and size:
            nvrtc.nvrtcGetProgramLog(program, text)
        logs.append(text.decode("utf-8", "replace").rstrip("\0"))
        return let_go(program)

    nvrtc.nvrtcDestroyProgram = read_and_let_go
    try:
        yield logs
    finally:
        nvrtc.nvrtcDestroyProgram = let_go


def spilled_bytes(log: str) -> dict[str, int]:
    """Bytes that each thread's spills write and read, by kernel; 0 for one that spills nothing."""
    return {name: int(out) + int(back) for name, out, back in _SPILLS.findall(log)}
