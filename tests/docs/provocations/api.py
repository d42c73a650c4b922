"""What `familyseer.tune` says of its arguments, and a result of what is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import familyseer
from familyseer.api._library import Library
from tests.docs.provocations import Place, provokes, refused
from tests.docs.provocations.use import SPECS, finished


@provokes("arguments-of-familyseertune")
def _arguments(_place: Place) -> Iterator[str]:
    wrong: tuple[dict[str, Any], ...] = (
        {"budget": True},
        {"budget": "soon"},
        {"trials": 0},
        {"families": "kin"},
        {"max_rel_error": 0.0},
        {"input_shapes": {"x": "wide"}},
        {"without": "luck"},
        {"tracker": "127.0.0.1:9190"},
    )
    for given in wrong:
        yield refused(familyseer.tune, "mlp", **given)
    for limits in ({}, {"rounds": 0}, {"rounds": 1, "gain": 1.0}):
        yield refused(familyseer.StopWhenFlat, **limits)
    for limits in ({}, {"speedup": 0.0}):
        yield refused(familyseer.StopAt, **limits)


@provokes("arguments-of-familyseertune_relax")
def _tvm_hook(place: Place) -> Iterator[str]:
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"budget_s": 1.0, "warm_start": [place.folder], "cost_model": "random"},
    )
    for given in wrong:
        work = str(place.folder)
        yield refused(familyseer.tune_relax, None, {}, "llvm", work, error=ValueError, **given)


@provokes("a-pytorch-module-cannot-be-exported")
def _modules(_place: Place) -> Iterator[str]:
    torch = pytest.importorskip("torch")
    from familyseer.api._torch import export_module
    from familyseer.models import load_given

    class Branch(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    class Scale(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any, factor: float) -> Any:
            return x * factor

    x = torch.ones(2)
    yield refused(familyseer.tune, "mlp", x)
    yield refused(export_module, Branch(), None)
    yield refused(export_module, Branch(), x)
    yield refused(load_given, export_module(Scale(), (x, 2.0)), "Scale")


def _library(inputs: Any = SPECS) -> Library:
    """What a library checks before it runs."""
    library = object.__new__(Library)
    library.inputs = inputs
    library._draw = lambda name: name  # type: ignore[method-assign, assignment, return-value]
    return library


@provokes("calling-a-result")
def _calls(place: Place) -> Iterator[str]:
    library, x = _library(), np.ones((2, 3), "float32")
    yield refused(library.named, [x] * 3, {})
    yield refused(library.named, [x], {"x": x})
    for given in ({"y": x}, {"x": x}, {"x": x.astype("float64")}, {"x": x.tolist()}):
        yield refused(library.order, given)
    torch = pytest.importorskip("torch")
    from familyseer.api._torch import Call, export_module, run_torch

    yield refused(run_torch, library, {"x": x})
    call = Call.of(export_module(torch.nn.Linear(3, 2), torch.ones(1, 3)))
    assert call is not None
    yield refused(call.tensors, (), {"other": torch.ones(1, 3)})
    place.without_torch()
    yield refused(familyseer.load(finished(place.folder)), x)


@provokes("keeping-a-result")
def _keeping(place: Place) -> Iterator[str]:
    out = finished(place.folder, device="opencl")
    result = familyseer.load(out)
    # no machine of the tests has one
    yield refused(lambda: result.module)
    yield refused(result.plot_latency)
    yield refused(result.export, place.folder / "model.dll")
    yield refused(result.export, place.folder / "no" / "model.so")
    yield refused(result.save, out)
    yield refused(result.save, out / "model.so" / "copy")
