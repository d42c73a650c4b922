"""Subgraphs of a fused module: what they are, how often they run, how much they compute."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from familyseer.errors import UserError
from familyseer.subgraphs._lower import fuse
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    import tvm


@dataclass(frozen=True)
class Subgraph:
    """One MetaSchedule task.

    Attributes
    ----------
    index
        Position in the model's list of subgraphs.
    key
        Structural hash of the TIR, as hex: the same for equal subgraphs of any model.
    name
        The fused function's name, such as ``fused_conv2d_add_relu``.
    mod
        The TIR, one function ``main``.
    weight
        How many times the model runs it.
    flops
        Floating-point operations of one run, at least 1.
    """

    index: int
    key: str
    name: str
    mod: tvm.IRModule
    weight: int
    flops: float


def subgraph_key(mod: tvm.IRModule) -> str:
    """Structural hash of a subgraph's TIR as 16 hex digits."""
    load_tvm()
    digest = importlib.import_module("tvm_ffi").structural_hash(mod)
    return f"{digest & (2**64 - 1):016x}"


def extract_subgraphs(fused: tvm.IRModule, target: tvm.target.Target) -> list[Subgraph]:
    """The subgraphs of a fused Relax module (see `fuse`), heaviest first.

    Functions that another library has scheduled already are left out.
    """
    tvm = load_tvm()
    tasks = tvm.s_tir.meta_schedule.relax_integration.extract_tasks(fused, target)
    found = []
    for task in tasks:
        mod = task.dispatched[0]
        if any(f.attrs and f.attrs.get("tirx.is_scheduled", False) for f in mod.functions.values()):
            continue
        flops = max(1.0, float(tvm.s_tir.analysis.estimate_tir_flops(mod)))
        found.append((str(task.task_name), mod, int(task.weight), flops))
    # TVM gives them in the order of a hash table; one order for every process keeps runs repeatable
    found.sort(key=lambda item: (-item[3] * item[2], item[0]))
    return [
        Subgraph(i, subgraph_key(mod), name, mod, weight, flops)
        for i, (name, mod, weight, flops) in enumerate(found)
    ]


def subgraphs_of(mod: tvm.IRModule, target: tvm.target.Target, source: str) -> list[Subgraph]:
    """The subgraphs of a Relax module that is not fused yet, heaviest first.

    Raises
    ------
    UserError
        There is none; `source` is the model's name in the message.
    """
    subgraphs = extract_subgraphs(fuse(mod, target), target)
    if not subgraphs:
        raise UserError(f"{source}: nothing in it can be tuned; expected at least one operation")
    return subgraphs
