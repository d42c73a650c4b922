"""Kernel libraries: the tuned subgraphs of a run as kernels that need no TVM.

For CUDA, each subgraph's source, cubin and PTX, and how to launch them; for CPUs, one shared object
of plain C functions. `familyseer.kernels.load` reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.export._kernels import _c_text, _cpu, _cuda, _cuda_text
from familyseer.export._kernels._choose import Tuned, choose
from familyseer.export._kernels._folder import refuse_foreign, replacing
from familyseer.export._kernels._lower import NotPlainError
from familyseer.export._kernels._names import c_names
from familyseer.export._kernels._spamm import TunedProduct, read_product
from familyseer.export.use import read_summary
from familyseer.kernels._manifest import (
    FORMAT,
    ITEM_BYTES,
    NAME,
    VERSION,
    Argument,
    CudaCode,
    Launch,
    Scalar,
    digest_of,
    read_manifest,
    this_machine,
)
from familyseer.kernels._multiprocessors import DEPENDS_ON_LISTS
from familyseer.measure._cuda_build import resources
from familyseer.safe_json import save_json
from familyseer.target import resolve_target

log = logging.getLogger(__name__)

_PREFIX = "fs_"
Named = tuple[str, Tuned, tuple[Argument, ...]]

_NOT_MEASURED = "not measured; familyseer.kernels.measure_multiprocessors does where a GPU is"


def export_kernels(out: Path, folder: Path) -> dict[str, Any]:
    """Writes the best kernel of each tuned subgraph of a run as a library, whole or not at all.

    A subgraph that cannot be a kernel by itself is left out with a warning. Of a run of `familyseer
    spamm tune`, it is the kernel that multiplies by a plan.

    Parameters
    ----------
    out
        OUT of a finished run.
    folder
        New, empty, or a kernel library, which is replaced.

    Returns
    -------
    dict
        What manifest.json holds.

    Raises
    ------
    UserError
        OUT holds no finished run or is damaged, `folder` holds something else or cannot be
        written, or the compiler for the target is missing.
    RunError
        The CUDA compiler refuses a kernel.
    """
    product = read_product(out)
    summary = read_summary(out) if product is None else product.summary
    refuse_foreign(folder)
    if not isinstance(summary.get("target"), str):
        raise UserError(f"{out / 'summary.json'}: names no target; expected that of a tuning run")
    target = resolve_target(summary["target"])
    kind = "cpu" if target.kind.name == "llvm" else str(target.kind.name)
    if kind not in ("cpu", "cuda"):
        raise UserError(f"{out}: tuned for {kind}; kernel libraries are for llvm and cuda targets")
    options = summary.get("options")
    exact = isinstance(options, dict) and options.get("exact_math") is True
    fill = _filling(out, product, kind, target, vector_math=not exact)
    _tell_of_layers(summary)
    with replacing(folder) as draft:
        described = fill(draft)
        files = {}
        for path in sorted(draft.iterdir()):
            size, digest = digest_of(path)
            files[path.name] = {"size": size, "sha256": digest}
        machine, system = this_machine()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "arch": str(target.attrs.get("arch" if kind == "cuda" else "mcpu", "") or "generic"),
            "machine": machine,
            "system": system,
            "target": str(target),
            "model": summary.get("model"),
            "model_digest": summary.get("digest"),
            "versions": summary.get("versions"),
            "library": _cpu.LIBRARY if kind == "cpu" else None,
            "files": files,
            "kernels": described,
        }
        save_json(draft / NAME, manifest)
        # what was written is what can be read
        read_manifest(draft)
    return manifest


def _filling(
    out: Path, product: TunedProduct | None, kind: str, target: Any, *, vector_math: bool
) -> Callable[[Path], list[dict[str, Any]]]:
    """What writes the kernels into a folder and describes them."""
    if product is not None and kind == "cuda":
        return partial(_fill_cuda_product, product, str(target.attrs["arch"]))
    chosen = _with_arguments(choose(out) if product is None else [product.for_cpu()])
    if kind == "cuda":
        return partial(_fill_cuda, chosen, target)
    return partial(_fill_cpu, chosen, target, vector_math)


def _tell_of_layers(summary: Mapping[str, Any]) -> None:
    """One line about layers that are no subgraphs, where SpAMM took some over."""
    report = summary.get("spamm")
    layers = report.get("layers") if isinstance(report, dict) else None
    if isinstance(layers, list) and layers:
        names = [str(one.get("name")) for one in layers if isinstance(one, dict)]
        log.warning(
            "layers that SpAMM took over are in model.so alone, with their weights, and are left "
            "out: %s",
            ", ".join(names),
        )


def _with_arguments(chosen: list[Tuned]) -> list[Named]:
    """Each tuned subgraph with its name in C and its arguments."""
    found = []
    for name, tuned in zip(c_names(one.name for one in chosen), chosen, strict=True):
        unknown = {one.dtype for one in tuned.parameters} - set(ITEM_BYTES)
        if unknown:
            log.warning("%s: takes arrays of %s and is left out", name, ", ".join(sorted(unknown)))
            continue
        arguments = tuple(
            Argument(argument, one.dtype, one.shape, one.output, one.fewer, one.alignment)
            for argument, one in zip(
                c_names(one.name for one in tuned.parameters), tuned.parameters, strict=True
            )
        )
        found.append((name, tuned, arguments))
    if not found:
        raise UserError("no subgraph of the run has arrays of types that a kernel library knows")
    return found


def _fill_cpu(
    chosen: list[Named], target: Any, vector_math: bool, draft: Path
) -> list[dict[str, Any]]:
    kernels = [(_PREFIX + name, tuned, arguments) for name, tuned, arguments in chosen]
    built = _cpu.build_shared_object(kernels, target, draft, vector_math=vector_math)
    heads = [(symbol, arguments) for symbol, _, arguments in kernels if symbol in built]
    arch = str(target.attrs.get("mcpu", "") or "any CPU")
    (draft / _c_text.HEADER).write_text(_c_text.header(heads, arch), "utf-8")
    (draft / _c_text.EXAMPLE).write_text(_c_text.example(*heads[0]), "utf-8")
    return [
        {**_described(name, tuned, arguments), "symbol": _PREFIX + name}
        for name, tuned, arguments in chosen
        if _PREFIX + name in built
    ]


def _fill_cuda(chosen: list[Named], target: Any, draft: Path) -> list[dict[str, Any]]:
    arch = str(target.attrs["arch"])
    lowered = []
    for name, tuned, arguments in chosen:
        names = [one.name for one in arguments]
        try:
            kernel = _cuda.lower_kernel(tuned, target, _PREFIX + name, names)
        except NotPlainError as error:
            log.warning("%s: is left out: %s", name, error)
            continue
        lowered.append(((name, tuned, arguments), kernel))
    sources = {name: kernel.source for (name, *_), kernel in lowered}
    binaries = _cuda.compile_sources(sources, arch)
    made = [(*one, *binary) for one, binary in zip(lowered, binaries, strict=True)]
    return _write_cuda(made, arch, draft)


def _fill_cuda_product(product: TunedProduct, arch: str, draft: Path) -> list[dict[str, Any]]:
    tuned, kernel, cubin, ptx = product.for_cuda(arch)
    (named,) = _with_arguments([tuned])
    (described,) = _write_cuda([(named, kernel, cubin, ptx)], arch, draft)
    described["multiprocessors"]["reason"] = DEPENDS_ON_LISTS
    return [described]


def _write_cuda(
    made: list[tuple[Named, _cuda.LoweredKernel, bytes, bytes | None]], arch: str, draft: Path
) -> list[dict[str, Any]]:
    described, heads = [], []
    for (name, tuned, arguments), kernel, cubin, ptx in made:
        (draft / f"{name}.cu").write_text(kernel.source, "utf-8")
        (draft / f"{name}.cubin").write_bytes(cubin)
        if ptx is not None:
            (draft / f"{name}.ptx").write_bytes(ptx)
        code = CudaCode(
            cubin=f"{name}.cubin",
            ptx=None if ptx is None else f"{name}.ptx",
            ptx_arch=None if ptx is None else _cuda.ptx_arch(arch),
            workspace_bytes=kernel.workspace_bytes,
            launches=kernel.launches,
        )
        used = resources(cubin, arch, str(draft))
        heads.append((_PREFIX + name, arguments, code))
        described.append(
            {
                **_described(name, tuned, arguments),
                "source": f"{name}.cu",
                **asdict(code),
                "launches": [
                    _launch(launch, used.get(launch.function)) for launch in code.launches
                ],
                "multiprocessors": {"fewest": None, "of": None, "reason": _NOT_MEASURED},
            }
        )
    if not heads:
        raise UserError("no subgraph of the run can be a kernel by itself")
    (draft / _c_text.HEADER).write_text(_cuda_text.header(heads, arch), "utf-8")
    (draft / _c_text.EXAMPLE).write_text(_cuda_text.example(*heads[0][:2]), "utf-8")
    return described


def _described(name: str, tuned: Tuned, arguments: tuple[Argument, ...]) -> dict[str, Any]:
    names = dict(zip((one.name for one in tuned.parameters), arguments, strict=True))
    return {
        "name": name,
        "subgraph": tuned.name,
        "key": tuned.key,
        "weight": tuned.weight,
        "tuned_us": tuned.seconds * 1e6,
        "checked": tuned.checked,
        "arguments": [
            {
                "name": one.name,
                "dtype": one.dtype,
                "shape": list(one.shape),
                "role": "output" if one.output else "input",
                "layout": "row-major",
                **({"fewer": True} if one.fewer else {}),
                **({"alignment": one.alignment} if one.alignment > 1 else {}),
            }
            for one in arguments
        ],
        "rewritten_inside": [names[one].name for one in tuned.rewritten],
        **tuned.more,
    }


def _passed(argument: str | int | Scalar | None) -> Any:
    if isinstance(argument, Scalar):
        return {argument.dtype: argument.value}
    return {"workspace": argument} if isinstance(argument, int) else argument


def _launch(launch: Launch, used: tuple[int, int, int] | None) -> dict[str, Any]:
    """A launch, with what the compiler says that the function uses, if cuobjdump is there."""
    names = ("registers", "stack_bytes", "static_shared_bytes")
    return {
        **asdict(launch),
        "grid": list(launch.grid),
        "block": list(launch.block),
        "arguments": list(map(_passed, launch.arguments)),
        "resources": dict(zip(names, used, strict=True)) if used else None,
    }
