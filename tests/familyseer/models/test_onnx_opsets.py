"""Transformers as exporters write them, from opset 13 to 22, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from familyseer.errors import UserError
from familyseer.models import LoadedModel, example_inputs, load_model

HIDDEN, HEADS, VOCABULARY = 16, 2, 40


class Decoder:
    """One layer of a decoder with dynamic batch and sequence, in the words that its opset has."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self._rng = np.random.default_rng(opset)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        results = [f"{kind}_{len(self.nodes)}_{position}" for position in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), results, **attributes))
        return results[0] if outputs == 1 else results

    def value(self, array: Any, dtype: str = "int64") -> str:
        name = f"value_{len(self.weights)}"
        self.weights[name] = np.asarray(array, dtype)
        return name

    def weight(self, *shape: int) -> str:
        return self.value(self._rng.standard_normal(shape) / 4, "float32")

    def layer_norm(self, x: str) -> str:
        scale, bias = self.weight(HIDDEN), self.weight(HIDDEN)
        if self.opset >= 17:
            return str(self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5))
        centred = self.op("Sub", x, self.mean(x))
        squared = self.op("Pow", centred, self.value(2.0, "float32"))
        variance = self.op("Add", self.mean(squared), self.value(1e-5, "float32"))
        normed = self.op("Div", centred, self.op("Sqrt", variance))
        return str(self.op("Add", self.op("Mul", normed, scale), bias))

    def mean(self, x: str) -> str:
        if self.opset >= 18:
            return str(self.op("ReduceMean", x, self.value([-1]), keepdims=1))
        return str(self.op("ReduceMean", x, axes=[-1], keepdims=1))

    def gelu(self, x: str) -> str:
        if self.opset >= 20:
            return str(self.op("Gelu", x))
        erf = self.op("Erf", self.op("Div", x, self.value(2**0.5, "float32")))
        gate = self.op("Add", erf, self.value(1.0, "float32"))
        return str(self.op("Mul", self.op("Mul", x, gate), self.value(0.5, "float32")))

    def thirds(self, x: str) -> Sequence[str]:
        if self.opset >= 18:
            return list(self.op("Split", x, outputs=3, axis=2, num_outputs=3))
        return list(self.op("Split", x, self.value([HIDDEN] * 3), outputs=3, axis=2))

    def extent(self, x: str, axis: int) -> str:
        shape = self.op("Shape", x)
        return str(self.op("Gather", shape, self.value([axis]), axis=0))

    def positions(self) -> str:
        """RoBERTa's: the ids that are not padding, counted."""
        kept = self.op("Not", self.op("Equal", "input_ids", self.value(1)))
        kept = self.op("Cast", kept, to=TensorProto.INT64)
        counted = self.op("Mul", self.op("CumSum", kept, self.value(1)), kept)
        return str(self.op("Add", counted, self.value(1)))

    def allowed(self) -> str:
        """batch x 1 x sequence x sequence: not padded, and not behind the row."""
        length = self.extent("input_ids", 1)
        square = self.op("Concat", length, length, axis=0)
        ones = helper.make_tensor("ones", TensorProto.FLOAT, [1], [1.0])
        full = self.op("ConstantOfShape", square, value=ones)
        if self.opset >= 14:
            lower = self.op("Cast", self.op("Trilu", full, upper=0), to=TensorProto.BOOL)
        else:
            end = self.op("Squeeze", length, self.value([0]))
            span = self.op("Range", self.value(0), end, self.value(1))
            row = self.op("Unsqueeze", span, self.value([1]))
            lower = self.op("LessOrEqual", span, row)
        mask = self.op("Cast", "attention_mask", to=TensorProto.BOOL)
        return str(self.op("And", self.op("Unsqueeze", mask, self.value([1, 2])), lower))

    def split_heads(self, x: str) -> str:
        tail = self.value([HEADS, HIDDEN // HEADS])
        shape = self.op("Concat", self.extent(x, 0), self.extent(x, 1), tail, axis=0)
        return str(self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3]))

    def draw(self) -> onnx.ModelProto:
        table = self.weight(VOCABULARY, HIDDEN)
        x = self.op("Gather", table, "input_ids")
        x = self.op("Add", x, self.op("Gather", self.weight(34, HIDDEN), self.positions()))
        joint = self.op("MatMul", self.layer_norm(x), self.weight(HIDDEN, 3 * HIDDEN))
        query, key, value = map(self.split_heads, self.thirds(joint))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        lowest = self.value(np.finfo(np.float32).min, "float32")
        scores = self.op("Where", self.allowed(), scores, lowest)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        x = self.op("Add", x, self.op("Reshape", mixed, self.value([0, 0, -1])))
        inner = self.gelu(self.op("MatMul", self.layer_norm(x), self.weight(HIDDEN, 64)))
        x = self.op("Add", x, self.op("MatMul", inner, self.weight(64, HIDDEN)))
        logits = self.op("MatMul", x, self.op("Transpose", table, perm=[1, 0]))
        chosen = self.op("ArgMax", logits, axis=-1, keepdims=0)
        return self.model({logits: "logits", chosen: "chosen", key: "key", value: "value"})

    def model(self, outputs: dict[str, str]) -> onnx.ModelProto:
        self.nodes += [helper.make_node("Identity", [old], [new]) for old, new in outputs.items()]
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ]
        results = [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "chosen" else TensorProto.FLOAT, None
            )
            for name in outputs.values()
        ]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "decoder", ids, results, weights)
        return save_ready(graph, self.opset)


def save_ready(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model of the oldest IR version that may have the opset."""
    version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
    )


def assert_equals_onnxruntime(model: LoadedModel, feed: dict[str, np.ndarray[Any, Any]]) -> None:
    ort = pytest.importorskip("onnxruntime")
    from familyseer.tvm_env import load_tvm

    assert model.onnx is not None
    session = ort.InferenceSession(
        model.onnx.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    tvm = load_tvm(intrinsics=True)
    machine = tvm.relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    result: Any = machine["main"](*[tvm.runtime.tensor(array) for array in feed.values()])
    found = [result] if hasattr(result, "numpy") else list(result)
    for got, want in zip(found, session.run(None, feed), strict=True):
        assert got.numpy().dtype == want.dtype
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 22])
def test_decoder_of_any_opset_computes_what_onnxruntime_computes(
    tmp_path: Path, opset: int
) -> None:
    path = tmp_path / "decoder.onnx"
    onnx.save(Decoder(opset).draw(), path)
    model = load_model(str(path), input_shapes={"input_ids": (2, 6)})
    assert [(one.name, one.shape, one.dtype) for one in model.inputs] == [
        ("input_ids", (2, 6), "int64"),
        ("attention_mask", (2, 6), "int64"),
    ]
    assert model.inputs[0].index_bound is not None
    feed = example_inputs(model.inputs)
    feed["input_ids"][1, 4:], feed["attention_mask"][1, 4:] = 1, 0
    assert_equals_onnxruntime(model, feed)


def one_operator(
    path: Path,
    node: onnx.NodeProto,
    weights: dict[str, Any],
    shape: Sequence[int],
    *,
    element: int = TensorProto.FLOAT,
) -> str:
    """A file with one node from "x" to float32 "y", of opset 18."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(save_ready(graph, 18), path)
    return str(path)


@pytest.mark.parametrize(
    ("node", "weights", "shape", "element"),
    [
        (
            helper.make_node("Pow", ["x", "e"], ["y"]),
            {"e": np.int64(3)},
            (2, 3),
            TensorProto.FLOAT,
        ),
        (
            helper.make_node("OneHot", ["x", "d", "v"], ["y"], axis=1),
            {"d": np.int64(5), "v": np.array([0.5, 2], np.float32)},
            (2, 3),
            TensorProto.INT64,
        ),
        (
            helper.make_node(
                "Resize",
                ["x", "", "s"],
                ["y"],
                mode="linear",
                axes=[-1, 2],
                coordinate_transformation_mode="half_pixel",
            ),
            {"s": np.array([2, 3], np.float32)},
            (1, 2, 4, 5),
            TensorProto.FLOAT,
        ),
        (
            helper.make_node("Resize", ["x", "", "", "n"], ["y"], mode="nearest", axes=[3]),
            {"n": np.array([10])},
            (1, 2, 4, 5),
            TensorProto.FLOAT,
        ),
    ],
    ids=["integer exponent", "one-hot", "scales of some axes", "sizes of one axis"],
)
def test_operator_that_the_importer_stumbles_over_is_computed(
    tmp_path: Path,
    node: onnx.NodeProto,
    weights: dict[str, Any],
    shape: Sequence[int],
    element: int,
) -> None:
    path = one_operator(tmp_path / "one.onnx", node, weights, shape, element=element)
    model = load_model(path)
    assert_equals_onnxruntime(model, example_inputs(model.inputs))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"antialias": 1}, "no antialias=1"),
        ({"keep_aspect_ratio_policy": "not_larger"}, "no keep_aspect_ratio_policy=not_larger"),
    ],
)
def test_resize_that_tvm_would_get_wrong_is_refused(
    tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    node = helper.make_node("Resize", ["x", "", "", "n"], ["y"], "resize", **attributes)
    path = one_operator(tmp_path / "one.onnx", node, {"n": np.array([1, 2, 2, 2])}, (1, 2, 4, 4))
    with pytest.raises(UserError, match=f"{message} \\(node resize\\)"):
        load_model(path)
