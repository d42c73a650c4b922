"""Compiles SpAMM's CUDA multiply kernels over their tuning space, without a GPU.

    python scripts/spamm_cuda_space.py --sample 50

For each dtype, unit and architecture: how many configurations compile, how many of those spill,
how far the estimate of registers is off, and whether tensor-core instructions are there. Everything
that fails is named. Writes ``benchmarks/results/spamm_cuda_space.json``.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from _results import save

from spamm.cuda._compile import compile_cubin, resources, sass
from spamm.cuda._config import ITEM_BYTES, SHARED_LIMIT, MultiplyConfig
from spamm.cuda._multiply import KERNEL_NAME, multiply_source
from spamm.cuda._space import default, space

UNITS = [("float16", "tensor"), ("bfloat16", "tensor"), ("float32", "tensor"), ("float32", "cores")]
DEFAULT_BLOCKS = [
    (side, depth, width)
    for side, width in ((32, 32), (64, 64), (128, 128), (128, 256))
    for depth in (16, 32, 64)
]


@dataclass(frozen=True)
class Checked:
    """What compiling one configuration gave; `fault` is empty when it is as it should be."""

    name: str
    fault: str
    registers: int = 0
    estimated: int = 0
    stack_bytes: int = 0
    seconds: float = 0.0


def check(config: MultiplyConfig, arch: str, folder: str) -> Checked:
    """Compiles a configuration and looks at its cubin."""
    began = time.perf_counter()
    try:
        cubin = compile_cubin(multiply_source(config), arch, cache=Path(folder))
        seconds = time.perf_counter() - began
        used = resources(cubin)[KERNEL_NAME]
        has_tensor = "HMMA" in sass(cubin)
    except RuntimeError as fault:
        return Checked(config.name, str(fault))
    wrong = "" if has_tensor == (config.unit == "tensor") else "tensor instructions: not as asked"
    return Checked(
        config.name, wrong, used.registers, config.registers, used.stack_bytes, round(seconds, 3)
    )


def row(dtype: str, unit: str, arch: str, checked: list[Checked]) -> dict[str, Any]:
    """What is known of one dtype, unit and architecture."""
    good = [each for each in checked if not each.fault]
    return {
        "dtype": dtype,
        "unit": unit,
        "arch": arch,
        "checked": len(checked),
        "compiled": len(good),
        "spilling": sum(each.stack_bytes > 0 for each in good),
        "most_stack_bytes": max((each.stack_bytes for each in good), default=0),
        "registers_over_estimate": max(
            (each.registers - each.estimated for each in good), default=0
        ),
        "seconds_each": round(sum(each.seconds for each in good) / max(1, len(good)), 2),
        "faults": {each.name: each.fault for each in checked if each.fault},
        "spills": {each.name: each.stack_bytes for each in good if each.stack_bytes},
    }


def told(found: dict[str, Any]) -> str:
    """One line for a row."""
    return (
        f"{found['dtype']:9} {found['unit']:6} {found['arch']}: {found['compiled']} of"
        f" {found['checked']} compile, {found['spilling']} spill (at most"
        f" {found['most_stack_bytes']} bytes), {found['seconds_each']} s each"
    )


@click.command()
@click.option(
    "--sample", default=50, show_default=True, help="Configurations of each kind; 0: all of them."
)
@click.option(
    "--arch",
    "archs",
    multiple=True,
    type=click.Choice(list(SHARED_LIMIT)),
    default=("sm_80", "sm_90"),
)
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(list(ITEM_BYTES)))
@click.option("--jobs", type=click.IntRange(min=1), default=len(os.sched_getaffinity(0)))
@click.option("--seed", default=0, show_default=True)
def main(
    sample: int, archs: tuple[str, ...], dtypes: tuple[str, ...], jobs: int, seed: int
) -> None:
    """Compile a sample of the space and every default, and tell what came of it."""
    kinds = [kind for kind in UNITS if not dtypes or kind[0] in dtypes]
    result: dict[str, Any] = {"sample": sample, "seed": seed, "space": [], "defaults": []}
    with (
        tempfile.TemporaryDirectory(prefix="spamm-space-") as folder,
        ProcessPoolExecutor(jobs) as pool,
    ):
        for (dtype, unit), arch in ((kind, arch) for kind in kinds for arch in archs):
            whole = space(dtype, arch, unit=unit)
            picked = random.Random(seed).sample(whole, sample or len(whole))
            # C is of the operands' type unless the caller has an array for it
            usual = [
                default(dtype, arch, block, out=out, unit=unit)
                for out in dict.fromkeys((dtype, "float32"))
                for block in DEFAULT_BLOCKS
            ]
            for name, configs in (("space", picked), ("defaults", usual)):
                repeated = ([arch] * len(configs), [folder] * len(configs))
                found = row(dtype, unit, arch, list(pool.map(check, configs, *repeated)))
                found["size"] = len(whole) if name == "space" else len(usual)
                result[name].append(found)
                click.echo(f"{name:8} {told(found)}")
    click.echo(f"written to {save('spamm_cuda_space', result)}")
    wrong = any(found["faults"] for name in ("space", "defaults") for found in result[name])
    sys.exit(1 if wrong or any(found["spilling"] for found in result["defaults"]) else 0)


if __name__ == "__main__":
    main()
