"""Candidates are linked as libraries are shipped, so that what is timed is what will run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from familyseer.measure._jobs import build_candidate
from familyseer.tvm_env import load_tvm


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("readelf") is None,
    reason="needs Linux and readelf, which comes with the linker",
)
def test_functions_of_libm_are_those_that_a_compiler_driver_binds(cpu: Any, tmp_path: Path) -> None:
    tvm = load_tvm(intrinsics=True)
    a = tvm.te.placeholder((64,), name="A")
    b = tvm.te.compute((64,), lambda i: tvm.tirx.exp(a[i]), name="B")
    func = tvm.te.create_prim_func([a, b]).with_attr("global_symbol", "main")
    mod = tvm.IRModule({"main": func})
    ours = build_candidate(mod, cpu, str(tmp_path)).path
    theirs = str(tmp_path / "shipped.so")
    tvm.driver.build(mod, target=cpu).export_library(theirs)

    def mathematics(path: str) -> list[str]:
        told = subprocess.run(
            ["readelf", "-W", "--dyn-syms", path], capture_output=True, text=True, check=True
        )
        words = [line.split() for line in told.stdout.splitlines() if " UND " in line]
        return sorted(w[7] for w in words if len(w) > 7 and w[7].startswith(("exp", "pow", "tanh")))

    assert mathematics(ours) == mathematics(theirs)
    # the versioned one: the oldest is bound where a reference names no version
    assert all("@" in name for name in mathematics(ours))
