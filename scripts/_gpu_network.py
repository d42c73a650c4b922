"""A network tuned by this project and by stock MetaSchedule, beside PyTorch's libraries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from _gpu_record import Parts

from familyseer.compare import (
    CompareOptions,
    reach,
    read_curve,
    run_tuner,
    time_libraries_of,
    untuned_library,
)

OURS, STOCK = "familyseer", "metaschedule"
# of a run of ours, what its summary says beside what a comparison keeps
_KEPT = ("phases_s", "gpus", "precision", "max_rel_error", "build_errors", "run_errors")


def compare_on(
    model: str, precision: str, parts: Parts, folder: Path, budget_s: float, target: str
) -> None:
    """Tunes a network with both tuners, then times all there is; each part is kept at once."""
    options = CompareOptions(
        model=model,
        out=folder,
        budget_s=budget_s,
        tuners=(OURS, STOCK),
        target=target,
        precision=precision,
    )
    folder.mkdir(parents=True, exist_ok=True)
    ours = parts.once("ours", lambda: run_ours(options), _has_library)
    if "pytorch_us" not in parts.found():
        parts.keep("pytorch_us", pytorch_us(model, precision))
    stock = parts.once("stock", lambda: run(options, STOCK), _has_library)
    parts.once("comparison", lambda: compared(options, [ours, stock]))


def run_ours(options: CompareOptions) -> dict[str, Any]:
    """Our run, and what of its time the GPUs were at work."""
    found = run(options, OURS)
    summary = json.loads((Path(found["folder"]) / "summary.json").read_text())
    return {
        **found,
        **{name: summary.get(name) for name in _KEPT},
        "gpu_share": gpu_share(summary),
        "alone_us": summary["tuned_us"],
        "untuned_us": summary["untuned_us"],
    }


def gpu_share(summary: dict[str, Any]) -> float | None:
    """The share of a run's time in which a GPU was at candidates, the mean of all GPUs."""
    gpus = summary.get("gpus") or []
    if not gpus or not summary.get("elapsed_s"):
        return None
    return float(sum(gpu["busy_s"] for gpu in gpus) / len(gpus) / summary["elapsed_s"])


def run(options: CompareOptions, tuner: str) -> dict[str, Any]:
    """A tuner's run; what one that was stopped has left is cleared away."""
    shutil.rmtree(options.out / f"{tuner}-0", ignore_errors=True)
    return run_tuner(replace(options), tuner, 0)


def compared(options: CompareOptions, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """All libraries end to end in turns, and who was when where the other ended."""
    timed = [dict(one) for one in runs]
    time_libraries_of(timed, untuned_library(options))
    curves = {one["folder"]: read_curve(Path(one["folder"]) / "history.csv") for one in runs}
    return {
        "untuned_us": timed[0]["untuned_us"],
        "tuned_us": {one["tuner"]: one["tuned_us"] for one in timed},
        "reach": reach(timed, curves),
    }


def _has_library(found: dict[str, Any]) -> bool:
    return (Path(found["folder"]) / "model.so").is_file()


def pytorch_us(model: str, precision: str) -> dict[str, Any]:
    """Microseconds of the same network in PyTorch, replayed as a CUDA graph; or why not."""
    try:
        return {"us": _pytorch_us(model, precision)}
    except Exception as error:  # whatever a library that may be of any version throws
        return {"us": None, "reason": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}


def _pytorch_us(model: str, precision: str) -> float:
    import torch
    from _gpu_matmul import graph_us

    if model not in _IN_PYTORCH:
        raise LookupError(f"{model} is not among what is compared with")
    torch.backends.cudnn.benchmark = True
    # float32 is float32 on both sides
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        network, inputs = _IN_PYTORCH[model]()
        dtype = getattr(torch, precision)
        network = network.eval().to("cuda", dtype)
        given = [x.to("cuda", dtype) if x.is_floating_point() else x.cuda() for x in inputs]
        if given[0].dim() == 4:
            network = network.to(memory_format=torch.channels_last)
            given[0] = given[0].to(memory_format=torch.channels_last)
        return graph_us(lambda: network(*given), 1)


def _torchvision(name: str, **options: Any) -> Callable[[], tuple[Any, list[Any]]]:
    def make() -> tuple[Any, list[Any]]:
        import importlib

        import torch

        models = importlib.import_module("torchvision.models")
        return getattr(models, name)(weights=None, **options), [torch.randn(1, 3, 224, 224)]

    return make


def _bert(**sizes: int) -> Callable[[], tuple[Any, list[Any]]]:
    def make() -> tuple[Any, list[Any]]:
        import importlib

        import torch

        transformers = importlib.import_module("transformers")
        network = transformers.BertModel(transformers.BertConfig(**sizes))
        tokens = torch.randint(0, 30000, (1, 128))
        return network, [tokens, torch.ones_like(tokens), torch.zeros_like(tokens)]

    return make


_IN_PYTORCH: dict[str, Callable[[], tuple[Any, list[Any]]]] = {
    "resnet50": _torchvision("resnet50"),
    "mobilenetv2_0.5": _torchvision("mobilenet_v2", width_mult=0.5),
    "bert_base": _bert(),
    "bert_small": _bert(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
    ),
}
