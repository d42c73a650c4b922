"""Turning the weights of a drawn network into inputs of its graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from familyseer.models.specs import InputSpec


def without_weights(
    model: onnx.ModelProto, weights: Mapping[str, tuple[float, float]]
) -> list[InputSpec]:
    """Make graph inputs, in place, of the initializers that ``weights`` names.

    Args:
        weights: name to (mean, standard deviation) of the values.

    Returns:
        The weights as inputs, in the order in which the graph now takes them.
    """
    graph = model.graph
    moved = [tensor for tensor in graph.initializer if tensor.name in weights]
    kept = [tensor for tensor in graph.initializer if tensor.name not in weights]
    specs = []
    for tensor in moved:
        shape = tuple(tensor.dims)
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        specs.append(InputSpec(tensor.name, shape, dtype, weight=weights[tensor.name]))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return specs
