"""Libraries timed call by call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from familyseer.export._jobs import time_calls
from familyseer.tvm_env import load_tvm


def test_what_a_function_calls_is_not_in_its_own_time(tmp_path: Path, cpu: Any) -> None:
    tvm = load_tvm()
    from tvm import relax

    builder = relax.BlockBuilder()
    kind = relax.TensorType((256, 256), "float32")
    x = relax.Var("x", kind)
    with builder.function("inner", [x]):
        y = builder.emit(relax.op.matmul(x, x))
        builder.emit_func_output(builder.emit(relax.op.matmul(y, x)))
    inner = next(var for var in builder.get().get_global_vars() if var.name_hint == "inner")
    z = relax.Var("z", kind)
    with builder.function("main", [z]):
        once = builder.emit(relax.Call(inner, [z]))
        builder.emit_func_output(builder.emit(relax.Call(inner, [once])))
    mod = relax.transform.LegalizeOps()(builder.get())
    tvm.compile(mod, cpu).export_library(str(tmp_path / "model.so"))

    array = np.zeros((256, 256), "float32")
    times = time_calls(str(tmp_path / "model.so"), "cpu", [array], 3)

    assert {name: [len(run) for run in runs] for name, runs in times.items()}.items() >= {
        "inner": [2, 2, 2],
        "matmul": [4, 4, 4],
    }.items()
    # two products take milliseconds as they are written, the calls of them microseconds
    assert sum(map(sum, times["inner"])) < sum(map(sum, times["matmul"])) / 2
