"""Built candidates for the fleet's tests, good and bad."""

from __future__ import annotations

from typing import Any

from familyseer.tvm_env import load_tvm

_CRASH = """
# from tvm.script import ir as I
# from tvm.script import tirx as T
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def main(A: T.Buffer((64,), "float32")):
        T.evaluate(T.call_extern("int32", "abort"))
"""


def crashing() -> Any:
    """A module that ends the process that runs it."""
    return load_tvm(intrinsics=True).script.from_source(_CRASH)


def args_of(mod: Any) -> Any:
    return load_tvm().s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func(mod, True)


def build(builder: Any, mod: Any, target: Any) -> str:
    """The path of a module's library."""
    result, _ = builder.finish(builder.start(mod, target))
    assert result.error_msg is None, result.error_msg
    return str(result.artifact_path)
