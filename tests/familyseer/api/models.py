"""Models that are objects: nothing of them is in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = range(13, 23)


def token_model(opset: int = 17, rows: int | str = 2) -> onnx.ModelProto:
    """Two inputs, one of them token ids, and two outputs, one of them integers."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((30, 16)).astype("float32"),
        "w": rng.standard_normal((16, 16)).astype("float32"),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Add", ["words", "x"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["hidden"]),
        helper.make_node("ArgMax", ["hidden"], ["chosen"], axis=-1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, [rows, 4]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4, 16]),
        ],
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [rows, 4, 16]),
            helper.make_tensor_value_info("chosen", TensorProto.INT64, [rows, 4]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )


def token_inputs() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return {
        "ids": rng.integers(0, 30, (2, 4)),
        "x": rng.standard_normal((2, 4, 16)).astype("float32"),
    }


def token_outputs(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What `token_model` computes, by NumPy."""
    table, w = (numpy_helper.to_array(one) for one in token_model().graph.initializer)
    hidden = np.maximum((table[inputs["ids"]] + inputs["x"]) @ w, 0)
    return {"hidden": hidden, "chosen": hidden.argmax(-1)}


RELAX = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor(("n", 16), "float32"), w: R.Tensor((16, 8), "float32")):
        y = R.matmul(x, w)
        z = R.nn.relu(y)
        return z
"""

POOLED = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((1, 4, 12, 12), "float32")):
        with R.dataflow():
            y = R.nn.max_pool2d(x, pool_size=(2, 2), strides=(2, 2))
            z = R.nn.relu(y)
            R.output(z)
        return z
"""
