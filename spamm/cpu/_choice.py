"""The configuration for a product on this machine: the tuned one where there is one."""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spamm import _tuned
from spamm._plan import Plan
from spamm.cpu import _threads
from spamm.cpu._config import CpuConfig, Sizes, _tiles, config_for, default_config, host_target

# asking LLVM takes longer than a small product
_host = functools.lru_cache(maxsize=1)(host_target)
# larger numbers than tuning ever tries
_MOST_UNROLLED = 16
_LARGEST_BLOCK = 4096
# least extent of products whose default blocks are deeper and wider
_LARGE = 2048


def block_for(shape: Sizes, dtype: str) -> Sizes:
    """Block sizes for (m, k, n) = shape where the caller names none."""
    tuned = _tuned.lookup("cpu", device(), dtype, shape)
    config = None if tuned is None else config_from(tuned.config, dtype)
    if config is not None:
        return config.block
    bm, bk, bn = default_config(dtype, _host()).block
    if min(shape) < _LARGE:
        return bm, bk, bn
    # a fifth faster at a valid ratio of 0.1, and skips about as well: there are blocks enough
    return bm, bk * 3 // 2, bn * 2


def config_of_plan(plan: Plan, dtype: str) -> CpuConfig:
    """How a plan's products are computed."""
    tuned = _tuned.lookup(
        "cpu",
        device(),
        dtype,
        plan.shape,
        valid_ratio=plan.valid_ratio,
        match={"block": plan.block},
    )
    config = None if tuned is None else config_from(tuned.config, dtype)
    return config_for(plan.block, dtype, _host()) if config is None else config


def config_from(values: Any, dtype: str) -> CpuConfig | None:
    """A configuration in plain values, as `dataclasses.asdict` gives them or JSON read them.

    None where they are none, or the kernel's generator would not make it for this machine.
    """
    names = {field.name for field in fields(CpuConfig)}
    if not isinstance(values, dict) or set(values) != names:
        return None
    sizes = {name: value for name, value in values.items() if name != "block"}
    block = values["block"]
    if not isinstance(block, (list, tuple)) or len(block) != 3:
        return None
    if any(type(size) is not int or size < 1 for size in (*block, *sizes.values())):
        return None
    config = CpuConfig(block=(block[0], block[1], block[2]), **sizes)
    sane = config.unroll <= _MOST_UNROLLED and max(*block, config.depth) <= _LARGEST_BLOCK
    tile = replace(config, block=(1, 1, 1), unroll=1, depth=CpuConfig.depth)
    return config if sane and _known(tile, dtype) else None


def device() -> str:
    """What a tuned configuration is for: this processor, and how many threads use it."""
    return f"{_processor()}, {_threads.count()} threads"


@functools.lru_cache(maxsize=256)
def _known(tile: CpuConfig, dtype: str) -> bool:
    return tile in _tiles(dtype, _host())


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    mcpu = str(_host().attrs.get("mcpu", "cpu"))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    model = next((value.strip() for name, _, value in pairs if name.strip() == "model name"), "")
    return f"{model} ({mcpu})" if model else mcpu
