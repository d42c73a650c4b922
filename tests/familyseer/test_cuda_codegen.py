"""CUDA code of whole networks, generated and compiled as the tuner does it, without a GPU.

One random valid candidate of a subgraph of every family, of those for tensor cores where there are
such. `scripts/cuda_builds.py` does the same with several candidates of every subgraph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from familyseer.measure import WorkerPool
from familyseer.measure._cuda_limits import Kernel, architecture, occupancy, refusal
from tests.familyseer.kernels.finished_run import finished_run

pytest.importorskip("cuda.bindings.nvrtc", reason="the wheels of the nvrtc extra are not installed")

TARGET = "nvidia/nvidia-h200"
NETWORKS = ["resnet18", "bert_small"]
PRECISIONS = ["float32", "float16"]
# of random candidates some are meant to be refused: so many are built until one is not
TRIES = 8
TENSOR_CORES = "wmma"


@dataclass(frozen=True)
class Built:
    """A subgraph's candidate.

    Attributes
    ----------
    tensorised
        Whether it claims to use tensor cores.
    tensor_instructions
        How often its machine code does.
    trace
        Of its schedule, as JSON.
    """

    name: str
    tensorised: bool
    kernels: tuple[Kernel, ...]
    tensor_instructions: int
    trace: Any


def subgraphs_of(network: str, precision: str) -> list[Any]:
    """The smallest subgraph of each family of a network."""
    from familyseer.families import form_families
    from familyseer.models import load_model
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target

    target = resolve_target(TARGET)
    every = extract_subgraphs(fuse(load_model(network, precision=precision).mod, target), target)
    by_index = {one.index: one for one in every}
    families = [[by_index[i] for i in one.members] for one in form_families(every, "op")]
    return [min(members, key=lambda one: one.flops) for members in families]


def build_one(subgraph: Any) -> Built:
    """Builds random candidates of a subgraph until one is worth running; runs in a worker."""
    import numpy as np

    from familyseer.search._evolution import Evolution
    from familyseer.search._proposals import new_context
    from familyseer.search._sketch import sketches_of
    from familyseer.target import resolve_target
    from familyseer.tvm_env import load_tvm

    load_tvm(intrinsics=True)
    target = resolve_target(TARGET)
    context = new_context(subgraph, target, 0, 1)
    sketches = sketches_of(context.generate_design_space())
    tensorised = [one for one in sketches if TENSOR_CORES in one.signature]
    # the last of them is that with the longest pipeline
    chosen = (tensorised or sketches)[-1:]
    rng = np.random.default_rng(1)
    evolution = Evolution(context, chosen, lambda s: np.zeros(len(s)), None, rng)
    refused = []
    for _ in range(TRIES):
        for one in evolution.draw(1):
            found = build(one.schedule, target, bool(tensorised))
            if not isinstance(found, str):
                kernels, count = found
                name = subgraph.name
                return Built(name, bool(tensorised), kernels, count, one.schedule.trace.as_json())
            refused.append(found)
    raise AssertionError(f"{subgraph.name}: none of {len(refused)} candidates: {refused}")


def build(schedule: Any, target: Any, tensorised: bool) -> tuple[tuple[Kernel, ...], int] | str:
    """Kernels of a candidate and its instructions for tensor cores, or why it is refused."""
    from familyseer.measure._cuda_build import CudaCompileError, build_cuda
    from familyseer.tvm_env import load_tvm

    transform = load_tvm().s_tir.transform
    mod = transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(schedule.mod)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "candidate.so"
        try:
            kernels = build_cuda(mod, target, str(library))
        except CudaCompileError as error:
            return str(error)
        why = refusal(kernels, str(target.attrs["arch"]))
        # unrolled code for CUDA cores takes longer to disassemble than to compile
        return why or (kernels, tensor_instructions(library) if tensorised else 0)


def tensor_instructions(library: Path) -> int:
    """How often a library's machine code uses tensor cores."""
    from spamm.cuda._compile import sass

    content = library.read_bytes()
    # the library is an ELF file itself, its cubin the other one
    told = sass(content[content.rindex(b"\x7fELF") :])
    assert "EXIT" in told
    return told.count("HMMA")


Everything = dict[tuple[str, str], list[tuple[Any, Built]]]


@pytest.fixture(scope="module")
def everything() -> Iterator[Everything]:
    """Subgraphs of all networks with a candidate each; equal subgraphs share theirs."""
    cases = [(network, precision) for precision in PRECISIONS for network in NETWORKS]
    with WorkerPool(2, calls_per_worker=200) as pool:
        loading = {case: pool.submit(subgraphs_of, *case, timeout_s=300) for case in cases}
        building: dict[str, Any] = {}
        members = {}
        for case, loaded in loading.items():
            members[case] = loaded.result()
            for one in members[case]:
                if one.key not in building:
                    building[one.key] = pool.submit(build_one, one, timeout_s=300)
        yield {
            case: [(one, building[one.key].result()) for one in subgraphs]
            for case, subgraphs in members.items()
        }


def test_every_kind_of_subgraph_compiles_to_what_the_gpu_can_launch(everything: Everything) -> None:
    on = architecture("sm_90")
    assert on is not None
    for case, subgraphs in everything.items():
        assert len(subgraphs) > 3
        for _, built in subgraphs:
            assert built.kernels, (case, built.name)
            for kernel in built.kernels:
                assert 0 < occupancy(kernel, on) <= 1
                assert kernel.spill_bytes == 0


def test_tensor_cores_are_used_where_they_are_claimed(everything: Everything) -> None:
    for (_, precision), subgraphs in everything.items():
        claimed = [built for _, built in subgraphs if built.tensorised]
        assert bool(claimed) == (precision == "float16")
        for _, built in subgraphs:
            assert (built.tensor_instructions > 0) == built.tensorised, built.name


def test_what_is_exported_does_not_spill_and_can_be_launched(
    everything: Everything, tmp_path: Path
) -> None:
    """A library of both networks' products, in float16, compiled anew by the export."""
    from familyseer.export.kernels import export_kernels
    from familyseer.target import resolve_target

    halves = (pair for network in NETWORKS for pair in everything[network, "float16"])
    chosen = list({pair[0].key: pair for pair in halves if pair[1].tensorised}.values())
    target = resolve_target(TARGET)
    records = [(subgraph, [(replayed(built), 1e-5)]) for subgraph, built in chosen]
    manifest = export_kernels(finished_run(tmp_path / "out", target, records), tmp_path / "library")
    assert len(manifest["kernels"]) == len(chosen)
    measured = {subgraph.key: built.kernels for subgraph, built in chosen}
    most_threads = int(target.attrs["max_threads_per_block"])
    for described in manifest["kernels"]:
        pairs = zip(described["launches"], measured[described["key"]], strict=True)
        for launch, candidate in pairs:
            used = launch["resources"]
            kernel = Kernel(
                launch["function"],
                tuple(launch["grid"]),
                tuple(launch["block"]),
                used["registers"],
                used["stack_bytes"],
                used["static_shared_bytes"],
                launch["shared_bytes"],
            )
            # the candidate's code, which does not spill, and bounds that a launch keeps
            assert (kernel.registers, kernel.stack_bytes) == (
                candidate.registers,
                candidate.stack_bytes,
            )
            assert refusal((kernel,), manifest["arch"]) is None
            assert 0 < kernel.threads <= most_threads


def replayed(built: Built) -> Any:
    """Applies a candidate's decisions to a schedule."""

    def change(schedule: Any) -> None:
        from familyseer.tvm_env import load_tvm

        trace = load_tvm().s_tir.schedule.Trace
        trace.apply_json_to_schedule(built.trace, schedule)

    return change
