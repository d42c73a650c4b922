"""Models that cannot be had, as `familyseer families` and `models` say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from familyseer.models import InputSpec, LoadedModel, example_inputs, load_model, zoo
from familyseer.models.input_shapes import bind_shapes
from familyseer.models.loading import load_given
from tests.docs.provocations import Place, command, provokes, refused

Shape = Sequence[int | str | None]


def saved(
    path: Path,
    *nodes: onnx.NodeProto,
    shape: Shape = (4, 4),
    element: int = TensorProto.FLOAT,
    weights: dict[str, Any] | None = None,
    ir_version: int = 8,
    opset: int = 18,
) -> Path:
    """A model from one input, x, to y."""
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["x"], ["y"], name="it")],
        "graph",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
    )
    return path


def families(model: object, *options: str) -> str:
    return command("families", model, *options)


@provokes("the-model-is-not-there")
def _not_there(place: Place) -> Iterator[str]:
    path = place.folder / "m.onnx"
    yield families(path)
    yield families(place.folder / ("m" * 300 + ".onnx"))
    path.touch()
    yield families(path)
    path.unlink()
    path.mkdir()
    yield families(path)
    other = place.folder / "m.h5"
    other.touch()
    yield families(other)
    yield families("squeezenett")
    yield families("zzz")
    yield command("models", "--save", "squeezenett", place.folder / "s.onnx")
    yield command("models", "--save", "zzz", place.folder / "s.onnx")


@provokes("an-onnx-file-is-something-else")
def _something_else(place: Place) -> Iterator[str]:
    path = place.folder / "m.onnx"
    for content in (
        b"<html>not found</html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        bytes(range(256)),
        b"\x08\x08",
    ):
        path.write_bytes(content)
        yield families(path)
    yield families(saved(path, ir_version=2))


@provokes("external-weights-are-missing")
def _weights(place: Place) -> Iterator[str]:
    path, weights = place.folder / "m.onnx", place.folder / "weights.bin"
    onnx.save(zoo.build("mlp"), path, save_as_external_data=True, location=weights.name)
    weights.write_bytes(weights.read_bytes()[:100])
    yield families(path)
    weights.unlink()
    yield families(path)


@provokes("an-operator-that-tvm-does-not-know")
def _operators(place: Place) -> Iterator[str]:
    path = place.folder / "m.onnx"
    yield families(saved(path, helper.make_node("Det", ["x"], ["y"])))
    resize = helper.make_node("Resize", ["x", "", "s"], ["y"], "r", mode="linear", antialias=1)
    scales = {"s": np.array([1, 1, 2, 2], "float32")}
    yield families(saved(path, resize, shape=(1, 1, 4, 4), weights=scales))
    # an inner extent of 3 against one of 2
    yield families(saved(path, helper.make_node("MatMul", ["x", "x"], ["y"]), shape=(2, 3)))
    torch = pytest.importorskip("torch")

    class Unknown(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.linalg.det(x)

    program = torch.export.export(Unknown(), (torch.eye(3),))
    torch.export.save(program, place.folder / "m.pt2")
    yield families(place.folder / "m.pt2")


@provokes("inputs-that-cannot-be-compiled")
def _inputs(place: Place) -> Iterator[str]:
    from familyseer.tvm_env import load_tvm

    node = helper.make_node("Identity", ["x"], ["y"])
    yield families(saved(place.folder / "m.onnx", node, element=TensorProto.STRING))
    relax = load_tvm().relax
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(dtype="float32", ndim=2))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    yield refused(load_given, builder.get(), "model")


@provokes("shapes-of-inputs")
def _shapes(place: Place) -> Iterator[str]:
    path = saved(place.folder / "m.onnx", shape=("batch", 3))
    yield families(path)
    for texts in (["x"], ["x=a"], ["x=1,3", "x=1,3"], ["y=1,3"], ["x=1"], ["x=1,4"]):
        yield families(path, *(part for text in texts for part in ("--input-shape", text)))
    yield refused(bind_shapes, str(path), {"x": ["batch", 3]}, {"x": (0, 3)})


@provokes("a-pt2-file-that-pytorch-does-not-read")
def _pt2(place: Place) -> Iterator[str]:
    torch = pytest.importorskip("torch")
    path = place.folder / "m.pt2"
    path.write_bytes(b"no archive")
    yield families(path)
    torch.save({"weights": torch.ones(2)}, path)
    yield families(path)


@provokes("a-model-in-memory")
def _in_memory(place: Place) -> Iterator[str]:
    from familyseer.tvm_env import load_tvm

    yield refused(load_given, {"weights": 1}, "model")
    yield refused(load_given, load_tvm().IRModule({}), "model")
    path = place.folder / "m.onnx"
    onnx.save(zoo.build("mlp"), path, save_as_external_data=True, location="weights.bin")
    yield refused(load_given, onnx.load(path, load_external_data=False), "model")


@provokes("nothing-in-the-model-can-be-tuned")
def _nothing(place: Place) -> Iterator[str]:
    yield families(saved(place.folder / "m.onnx", helper.make_node("Identity", ["x"], ["y"])))


@provokes("the-model-needs-more-memory-than-there-is")
def _memory(_place: Place) -> Iterator[str]:
    own, weight = InputSpec("x", (1 << 25, 1 << 25), "float32"), (0.0, 1.0)
    yield refused(example_inputs, [own], seed=0)
    yield refused(
        example_inputs, [InputSpec(own.name, own.shape, own.dtype, weight=weight)], seed=0
    )


@provokes("float16-does-not-suit-the-model")
def _float16(place: Place) -> Iterator[str]:
    from concurrent.futures import Future

    from familyseer.run._precision import check_precision
    from familyseer.search import Clock

    class Here:
        """Runs at once what a worker would run."""

        def submit(self, function: Any, *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*args))
            return future

    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.eye(4, dtype="float32")}
    path = saved(place.folder / "m.onnx", product, weights=weights)
    yield refused(load_model, str(path), precision="int4")
    relu = saved(place.folder / "relu.onnx")
    yield refused(load_model, str(relu), precision="float16")
    model: LoadedModel = load_model(str(path), precision="float16")
    x = np.eye(4, dtype="float32")
    for wrong in (x + 1, np.full_like(x, np.inf)):
        told = SimpleNamespace(inputs=[x], outputs=[wrong])
        yield refused(check_precision, model, told, Here(), Clock(60.0), 0.05)


@provokes("writing-a-built-in-network")
def _save(place: Place) -> Iterator[str]:
    yield command("models", "--save", "mlp", place.folder / "mlp.pb")
    yield command("models", "--save", "mlp", place.folder / "no" / "mlp.onnx")
    yield refused(zoo.build, "mlp", -1)
