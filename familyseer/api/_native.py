"""Keeps TVM's native code from printing on standard error, where that belongs to the program."""

from __future__ import annotations

from typing import Any

from familyseer.tvm_env import load_tvm

# schedule rules that TVM's operators ask for by name and that it does not have
_MISSING = ("meta_schedule.pool_max", "meta_schedule.adaptive_pool_max")
_KEYS = ("cpu", "cuda", "gpu")


def register_missing_rules() -> None:
    """Gives TVM the rules that it looks for in vain, a warning on standard error for each block.

    They do what TVM does without them, to the same traces: the block is left to the other rules.
    """
    tvm = load_tvm()
    for rule in _MISSING:
        for key in _KEYS:
            name = f"s_tir.meta_schedule.{key}.{rule}"
            if tvm.get_global_func(name, allow_missing=True) is None:
                tvm.register_global_func(name, _leave_to_others)


def _leave_to_others(schedule: Any, block: Any) -> list[Any]:
    schedule.unannotate(block, "schedule_rule")
    return [schedule]
