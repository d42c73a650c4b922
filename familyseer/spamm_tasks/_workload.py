"""A SpAMM problem and its configurations in MetaSchedule's terms.

MetaSchedule records a workload, which is TIR, and a trace of scheduling instructions. What a kernel
generator does with a configuration is no sequence of such instructions. So the workload is the
product itself, a dense matmul in TIR that carries the problem as an attribute, and a candidate is
that function with one annotation, which names the configuration: SpAMM computes what the workload
says, but for an error that its plan bounds. Such a record is as valid as any: MetaSchedule reads
and writes it, ranks it by its seconds, and applies its trace to the workload; whoever knows the
generator finds in the annotation all that is needed to make the kernel again.
"""

from __future__ import annotations

import json
from typing import Any

from familyseer.spamm_tasks._kinds import Values, text_of
from familyseer.spamm_tasks._problem import Problem
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm

FAMILY = "spamm"
PROBLEM = "spamm.problem"
CONFIG = "spamm.config"
_ROOT = "root"


def workload(problem: Problem) -> Any:
    """The product as a module of TIR, with the problem as an attribute of its ``main``."""
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    m, k, n = problem.shape
    sums = "float64" if problem.dtype == "float64" else "float32"
    a = te.placeholder((m, k), problem.dtype, name="A")
    b = te.placeholder((k, n), problem.dtype, name="B")
    r = te.reduce_axis((0, k), name="r")
    c = te.compute(
        (m, n),
        lambda i, j: te.sum(a[i, r].astype(sums) * b[r, j].astype(sums), axis=r),
        name="spamm",
    )
    main = te.create_prim_func([a, b, c]).with_attr(
        {"global_symbol": "main", PROBLEM: problem.to_json()}
    )
    return tvm.IRModule({"main": main})


def subgraph(problem: Problem, flops: float, index: int = 0) -> Subgraph:
    """The problem as the budget loop knows it.

    Parameters
    ----------
    flops
        Of the products that are kept.
    """
    mod = workload(problem)
    return Subgraph(index, subgraph_key(mod), problem.name, mod, 1, max(1.0, flops))


def schedule_of(mod: Any, config: Values) -> Any:
    """The workload with the annotation that names a configuration."""
    schedule = load_tvm().s_tir.Schedule(mod)
    schedule.annotate(schedule.get_sblock(_ROOT), CONFIG, text_of(config))
    return schedule


def config_of(mod: Any) -> dict[str, Any] | None:
    """The configuration that a candidate's module names; None for the workload as it is."""
    text = mod["main"].body.block.annotations.get(CONFIG)
    return None if text is None else dict(json.loads(str(text)))


def config_of_trace(trace: Any) -> dict[str, Any] | None:
    """The configuration that a record's trace names, without applying it."""
    for instruction in trace.insts:
        if str(instruction.kind.name) == "Annotate" and str(instruction.attrs[0]) == CONFIG:
            return dict(json.loads(str(instruction.inputs[1])))
    return None
