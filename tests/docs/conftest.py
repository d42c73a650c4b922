"""What the pages' examples find: a small model, a run of it, its kernels, two matrices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import familyseer
from familyseer.cli.main import main
from spamm.generators import exponential_decay

SHAPE = (1, 3, 224, 224)


@dataclass(frozen=True)
class Workshop:
    """A folder with the files that examples name, and the values that they take for granted."""

    folder: Path
    names: dict[str, Any]


def small_model() -> onnx.ModelProto:
    """A convolution, a ReLU and a dense layer, of the usual input."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = rng.standard_normal(shape).astype("float32")
        return onnx.numpy_helper.from_array(array, name)

    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["image", "w", "b"], ["c"], strides=[8, 8]),
            node("Relu", ["c"], ["r"]),
            node("GlobalAveragePool", ["r"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "g"], ["scores"]),
        ],
        "small",
        [value("image", onnx.TensorProto.FLOAT, SHAPE)],
        [value("scores", onnx.TensorProto.FLOAT, (1, 10))],
        [weight("w", 8, 3, 3, 3), weight("b", 8), weight("g", 8, 10)],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, cpu: Any) -> Workshop:
    from familyseer.models import load_model
    from familyseer.subgraphs import fuse

    folder = tmp_path_factory.mktemp("docs")
    onnx.save(small_model(), folder / "model.onnx")
    np.savez(folder / "in.npz", image=np.zeros(SHAPE, "float32"))
    matrices = {n: exponential_decay(256, base=0.9, seed=i) for i, n in enumerate("ab")}
    for name, matrix in matrices.items():
        np.save(folder / f"{name}.npy", matrix)
    out, kernels = str(folder / "out"), str(folder / "kernels")
    call(
        "tune", str(folder / "model.onnx"), "-o", out, "--trials", "6", "--workers", "1", "--quiet"
    )
    call("export", out, "--kernels", kernels)
    mod = fuse(load_model(str(folder / "model.onnx")).mod, cpu)
    return Workshop(folder, {**matrices, "mod": mod, "params": {}, "target": cpu})


def call(*arguments: str) -> str:
    """Runs `familyseer` in this process and gives what it printed."""
    result = CliRunner().invoke(main, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert not result.return_value, result.output
    return result.output


@pytest.fixture
def in_workshop(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """The workshop as the current folder."""
    monkeypatch.chdir(workshop.folder)
    return workshop


@pytest.fixture
def short_budgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tuning as the examples ask for it, but for a few candidates."""
    tune_relax = familyseer.tune_relax

    def few_trials(*args: Any, **kwargs: Any) -> Any:
        return tune_relax(*args, **{**kwargs, "max_trials_global": 2})

    monkeypatch.setattr(familyseer, "tune_relax", few_trials, raising=False)
    if "tune" in familyseer.__all__:
        tune = familyseer.tune
        monkeypatch.setattr(
            familyseer,
            "tune",
            lambda *args, **kwargs: tune(*args, **{**kwargs, "trials": 2, "workers": 1}),
            raising=False,
        )
    yield
    # TVM stops its logger's propagation, and pytest then hangs a handler without a name on it,
    # which TVM's next set-up of its loggers trips over
    logging.getLogger("tvm.s_tir.meta_schedule").propagate = True
