"""How a candidate's kernels are launched, read while TVM lowers it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from familyseer.tvm_env import load_tvm

_LAUNCH = "tirx.call_ffi_kernel"
_DYNAMIC = "tirx.use_dyn_shared_memory"
# after it, the host's function calls each kernel with its arguments and extents in plain sight
_SPLIT = "tirx.SplitHostDevice"


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes
    ----------
    name
        The kernel's.
    grid, block
        Extents along x, y and z.
    dynamic_bytes
        Shared memory of a block beyond what the kernel declares.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_bytes: int


class LaunchNotes:
    """Notes the launches of a module that is being built.

    Attributes
    ----------
    instrument
        For the `tvm.transform.PassContext` of the build.
    launches
        In the order of the calls; launches whose extents are not constant are left out.
    """

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        tvm = load_tvm()
        notes = self

        @tvm.ir.instrument.pass_instrument
        class Instrument:
            def run_after_pass(self, mod: Any, info: Any) -> None:
                if str(info.name) == _SPLIT:
                    notes.launches = launches(mod)

        self.instrument: Any = Instrument()


def launches(mod: Any) -> list[Launch]:
    """The launches in a module that was split into host and device functions."""
    walk = importlib.import_module("tvm_ffi").structural_walk
    call_type = importlib.import_module("tvm.ir").Call
    found: list[Launch] = []

    def note(call: Any) -> None:
        if str(getattr(call.op, "name", "")) != _LAUNCH:
            return
        tags = [str(tag) for tag in call.attrs.launch_params]
        name, *arguments = (getattr(argument, "value", None) for argument in call.args)
        extents = dict(zip(tags, arguments[len(arguments) - len(tags) :], strict=True))
        if all(isinstance(extent, int) for extent in extents.values()):
            found.append(_launch(str(name), extents))

    for function in mod.functions.values():
        walk(function.body, (call_type, note))
    return found


def _launch(name: str, extents: dict[str, Any]) -> Launch:
    def three(of: str) -> tuple[int, int, int]:
        x, y, z = (int(extents.get(f"{of}.{axis}", 1)) for axis in "xyz")
        return x, y, z

    return Launch(name, three("blockIdx"), three("threadIdx"), int(extents.get(_DYNAMIC, 0)))
