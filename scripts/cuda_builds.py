"""How many candidates of the CUDA design spaces compile, without a GPU.

Random candidates of every subgraph are built as the tuner builds them: lowered, generated as CUDA,
compiled by nvrtc, refused where they spill, work from local memory or cannot be launched. Those for
tensor cores are looked into: whether their machine code uses them.

    python scripts/cuda_builds.py resnet18 bert_small --precision float16
"""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np

from familyseer.measure import WarmBuilder
from familyseer.measure._failures import one_line
from familyseer.models import load_model
from familyseer.run._summary import versions
from familyseer.search._evolution import Evolution
from familyseer.search._proposals import new_context
from familyseer.search._sketch import sketches_of
from familyseer.subgraphs import Subgraph, extract_subgraphs, fuse
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm
from spamm.cuda._compile import sass

_TENSOR_CORES = "wmma"
BUILT = "built"


def candidates(subgraph: Subgraph, target: Any, count: int, seed: int) -> list[tuple[bool, Any]]:
    """At most `count` random candidates of each sketch, and whether they are for tensor cores."""
    context = new_context(subgraph, target, seed, 1)
    drawn = []
    for sketch in sketches_of(context.generate_design_space()):
        rng = np.random.default_rng(seed)
        evolution = Evolution(context, [sketch], lambda s: np.zeros(len(s)), None, rng)
        tensorised = _TENSOR_CORES in sketch.signature
        drawn += [(tensorised, one.schedule) for one in evolution.draw(count)]
    return drawn


def outcome(result: Any) -> str:
    """``built``, or why not, without what differs from candidate to candidate."""
    if result.error_msg is None:
        return BUILT
    text = one_line(str(result.error_msg))
    if " spills: " in text:
        return "refused: spills"
    if "in local memory" in text:
        return "refused: works from local memory"
    if "cannot be launched" in text:
        return "refused: cannot be launched"
    return text[:120]


def count_builds(
    model: str, precision: str, target: Any, count: int, seed: int, builder: Any
) -> dict[str, Any]:
    """What became of the candidates of a model's subgraphs."""
    loaded = load_model(model, precision=precision)
    subgraphs = extract_subgraphs(fuse(loaded.mod, target), target)
    ends = {True: collections.Counter[str](), False: collections.Counter[str]()}
    uncovered = []
    using = 0
    for subgraph in subgraphs:
        drawn = candidates(subgraph, target, count, seed)
        started = [(t, builder.start(sch.mod, target)) for t, sch in drawn]
        found = []
        for tensorised, future in started:
            result, _ = builder.finish(future)
            found.append(outcome(result))
            ends[tensorised][found[-1]] += 1
            if result.error_msg is None:
                library = Path(str(result.artifact_path))
                using += tensorised and uses_tensor_cores(library)
                shutil.rmtree(library.parent)
        if BUILT not in found:
            uncovered.append(subgraph.name)
        click.echo(f"{model} {precision} {subgraph.name[:50]}: {len(drawn)}", err=True)
    return {
        "model": model,
        "precision": precision,
        "target": str(target),
        "subgraphs": len(subgraphs),
        "tensor_cores": dict(ends[True]),
        "tensor_cores_in_machine_code": using,
        "cuda_cores": dict(ends[False]),
        "subgraphs_without_a_good_candidate": uncovered,
    }


def uses_tensor_cores(library: Path) -> bool:
    """Whether the machine code in a candidate's library has instructions for tensor cores."""
    content = library.read_bytes()
    # the library is an ELF file itself, its cubin the other one
    return "MMA" in sass(content[content.rindex(b"\x7fELF") :])


def compiled_share(ends: dict[str, int]) -> float | None:
    """Of all candidates those that compiled, the ones refused afterwards among them."""
    total = sum(ends.values())
    good = sum(n for end, n in ends.items() if end == BUILT or end.startswith("refused"))
    return good / total if total else None


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--target", default="nvidia/nvidia-h200", show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("float32", "float16"))
@click.option("--candidates", "count", default=2, show_default=True, help="Of each sketch.")
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where results are written.")
def main(
    models: tuple[str, ...],
    target: str,
    precisions: tuple[str, ...],
    count: int,
    seed: int,
    out: Path | None,
) -> None:
    """Build random CUDA candidates of MODELS and count what becomes of them."""
    load_tvm(intrinsics=True)
    resolved = resolve_target(target)
    # a busy machine must not change the counts
    builder = WarmBuilder(timeout_s=120)
    rows = []
    try:
        for model in models:
            for precision in precisions:
                row = count_builds(model, precision, resolved, count, seed, builder)
                rows.append(row)
                for kind in ("tensor_cores", "cuda_cores"):
                    share = compiled_share(row[kind])
                    if share is not None:
                        said = ", ".join(f"{n} {end}" for end, n in row[kind].items())
                        click.echo(f"{model} {precision} {kind}: {share:.1%} compile ({said})")
    finally:
        builder.close()
    if out is not None:
        result = {"versions": versions(), "candidates_a_sketch": count, "seed": seed, "rows": rows}
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
