"""ONNX operators that TVM's importer stumbles over or misreads, in words that it reads right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from familyseer.errors import UserError

_SHORT_BYTES = 1 << 16


def respell(model: onnx.ModelProto, source: str) -> None:
    """Change the graph in place, without changing what it computes.

    * ``Pow`` with a constant exponent of another type than its base: TVM wants one type.
    * ``OneHot``: TVM's has float64 values whatever the type that was asked for.
    * ``Resize`` of some axes (opset 18): TVM reads scales and sizes as those of all axes.

    Raises:
        UserError: ``Resize`` with ``antialias`` or with an aspect ratio to keep, both of which TVM
            ignores: it would compute something else.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types: dict[str, onnx.TypeProto.Tensor] | None = None
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "OneHot" and node.input[2] in constants:
            nodes += _typed_one_hot(node, constants[node.input[2]].data_type)
            continue
        nodes.append(node)
        if node.op_type == "Resize":
            _check_resize(node, source)
        if not _needs_types(node, constants):
            continue
        if types is None:
            types = _types(model)
        known = types.get(node.input[0])
        if known is None:
            continue
        if node.op_type == "Pow":
            _retype_exponent(graph, node, constants[node.input[1]], known.elem_type)
        else:
            _resize_all_axes(graph, node, constants, known)
    del graph.node[:]
    graph.node.extend(nodes)


def _needs_types(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type == "Pow":
        return node.input[1] in constants
    return node.op_type == "Resize" and any(one.name == "axes" for one in node.attribute)


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Element type and shape of every value whose type can be inferred."""
    graph = model.graph
    # inference looks into short tensors, which may be shapes; with all of the weights the model may
    # be too long to be serialised, which inference does
    described = {
        tensor.name: helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
    }
    short = [tensor for tensor in graph.initializer if tensor.ByteSize() <= _SHORT_BYTES]
    inputs = [value for value in graph.input if value.name not in described]
    light = helper.make_graph(
        graph.node, graph.name, [*inputs, *described.values()], graph.output, short
    )
    whole = helper.make_model(light, ir_version=model.ir_version, opset_imports=model.opset_import)
    inferred = shape_inference.infer_shapes(whole, data_prop=True).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    return {value.name: value.type.tensor_type for value in values}


def _typed_one_hot(node: onnx.NodeProto, element: int) -> Iterator[onnx.NodeProto]:
    result = node.output[0]
    node.output[0] = f"{result}.untyped"
    yield node
    yield helper.make_node("Cast", [node.output[0]], [result], name=f"{result}.typed", to=element)


def _retype_exponent(
    graph: onnx.GraphProto, node: onnx.NodeProto, exponent: onnx.TensorProto, element: int
) -> None:
    if element in (onnx.TensorProto.UNDEFINED, exponent.data_type):
        return
    values = numpy_helper.to_array(exponent).astype(helper.tensor_dtype_to_np_dtype(element))
    node.input[1] = _add(graph, f"{node.output[0]}.exponent", values)


def _resize_all_axes(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    resized: onnx.TypeProto.Tensor,
) -> None:
    extents = [dim.dim_value for dim in resized.shape.dim]
    for position, neutral, dtype in (
        (1, [0.0] * len(extents) + [1.0] * len(extents), np.float32),
        (2, [1.0] * len(extents), np.float32),
        (3, extents, np.int64),
    ):
        name = node.input[position] if position < len(node.input) else ""
        if not name:
            continue
        if name not in constants or not extents:
            return
        axes = np.array(helper.get_node_attr_value(node, "axes")) % len(extents)
        whole = np.array(neutral, dtype)
        # the region of interest has the starts of all axes, then their ends
        places = np.concatenate([axes, axes + len(extents)]) if position == 1 else axes
        values = numpy_helper.to_array(constants[name])
        if values.size == 0:
            continue
        whole[places] = values
        node.input[position] = _add(graph, f"{node.output[0]}.{position}", whole)
    kept = [one for one in node.attribute if one.name != "axes"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _check_resize(node: onnx.NodeProto, source: str) -> None:
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    wrong = []
    if attributes.get("antialias", 0):
        wrong.append("antialias=1")
    policy = attributes.get("keep_aspect_ratio_policy", b"stretch").decode()
    if policy != "stretch":
        wrong.append(f"keep_aspect_ratio_policy={policy}")
    if wrong:
        label = node.name or node.output[0]
        raise UserError(
            f"{source}: TVM's Resize has no {' and no '.join(wrong)} (node {label}); "
            "expected a model exported without it"
        )


def _add(graph: onnx.GraphProto, name: str, values: np.ndarray[Any, Any]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name
