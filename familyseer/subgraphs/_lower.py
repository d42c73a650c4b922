"""The Relax passes that cut a model into fused functions, before any of them is scheduled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    import tvm


def fuse(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Legalises and fuses a Relax module, as `relax.get_pipeline("zero")` does.

    The functions of the result are the subgraphs; applying a database to it, and compiling it
    untuned, start from the same module, so that the two libraries differ in schedules alone.
    """
    tvm = load_tvm()
    relax = tvm.relax
    passes = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.get_pipeline("zero"),
    ]
    with target:
        return tvm.transform.Sequential(passes)(mod)
