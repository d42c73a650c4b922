"""Small models with pruned, decaying and dense weights, for a benchmark of SpAMM in models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[tuple[int, int]], Any]


def pruned(rng: np.random.Generator, keep: float = 0.1, block: int = 32) -> Make:
    """Weights of which magnitude pruning left that share of the blocks."""

    def make(shape: tuple[int, int]) -> Any:
        weight = rng.standard_normal(shape) / np.sqrt(shape[1])
        rows, cols = (-(-extent // block) for extent in shape)
        # some blocks matter more than others, as in trained layers
        scale = np.exp(rng.standard_normal((rows, cols)))
        scale[scale < np.quantile(scale, 1 - keep)] = 0.0
        return weight * np.kron(scale, np.ones((block, block)))[: shape[0], : shape[1]]

    return make


def decaying(rng: np.random.Generator, reach: float = 0.015) -> Make:
    """Weights that decay exponentially from the diagonal, over that share of the side."""

    def make(shape: tuple[int, int]) -> Any:
        rows, cols = (np.linspace(0, 1, extent) for extent in shape)
        decay = np.exp(-np.abs(rows[:, None] - cols[None, :]) / reach)
        return rng.standard_normal(shape) * decay / np.sqrt(shape[1] * reach)

    return make


def dense(rng: np.random.Generator) -> Make:
    """Weights that are all alike."""
    return lambda shape: rng.standard_normal(shape) / np.sqrt(shape[1])


def perceptron(make: Make, rows: int = 64, width: int = 512, layers: int = 3) -> Any:
    """Linear layers with bias and ReLU, as Gemm with a transposed weight."""
    nodes, weights, name = [], [], "x"
    for i in range(layers):
        weights += [_tensor(f"w{i}", make((width, width))), _tensor(f"b{i}", np.zeros(width))]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"g{i}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"g{i}"], [f"h{i}"]))
        name = f"h{i}"
    return _model(nodes, weights, name, (rows, width), (rows, width))


def convolutional(make: Make, channels: int = 128, side: int = 28, layers: int = 3) -> Any:
    """Convolutions of 3 x 3 with bias and ReLU, the first of stride 2."""
    nodes, weights, name = [], [], "x"
    for i in range(layers):
        kernel = make((channels, channels * 9)).reshape(channels, channels, 3, 3)
        weights += [_tensor(f"w{i}", kernel), _tensor(f"b{i}", np.zeros(channels))]
        nodes.append(
            helper.make_node(
                "Conv",
                [name, f"w{i}", f"b{i}"],
                [f"c{i}"],
                pads=[1, 1, 1, 1],
                strides=[2 if i == 0 else 1] * 2,
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"h{i}"]))
        name = f"h{i}"
    out = -(-side // 2)
    return _model(nodes, weights, name, (1, channels, side, side), (1, channels, out, out))


def _tensor(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)


def _model(
    nodes: list[Any], weights: list[Any], result: str, x: tuple[int, ...], out: tuple[int, ...]
) -> Any:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, out)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
