"""What has to be known about, and done to, an ONNX graph before TVM imports it."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping

import onnx
from onnx import helper, inliner

from familyseer.errors import UserError
from familyseer.models.input_shapes import DeclaredShape

_log = logging.getLogger(__name__)

# it turns MatMul + Add over a sequence into Reshape, Gemm, Reshape: the same arithmetic in a graph
# whose reshapes cut apart what TVM would fuse
_UNWANTED_FUSIONS = ["FusionGemm"]


def declared_inputs(model: onnx.ModelProto, source: str) -> dict[str, tuple[DeclaredShape, str]]:
    """Name to (dims, NumPy dtype name) of the true inputs, in order; initializers are not inputs.

    Raises:
        UserError: an input is not a tensor of numbers or booleans.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs: dict[str, tuple[DeclaredShape, str]] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.WhichOneof("value")
        element = value.type.tensor_type.elem_type
        if kind != "tensor_type" or element in (
            onnx.TensorProto.UNDEFINED,
            onnx.TensorProto.STRING,
        ):
            raise UserError(
                f"{source}: input {value.name} is not a tensor of numbers, which is all that "
                "can be compiled"
            )
        inputs[value.name] = (
            _dims(value.type.tensor_type),
            helper.tensor_dtype_to_np_dtype(element).name,
        )
    return inputs


def _dims(tensor_type: onnx.TypeProto.Tensor) -> DeclaredShape:
    if not tensor_type.HasField("shape"):
        return None
    # exporters of old wrote 0 or -1 where they meant "any"
    return [
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
        for dim in tensor_type.shape.dim
    ]


def bind_inputs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write static shapes into the graph's inputs, in place, and drop the shapes that other values
    were declared with: they may speak of symbols that are gone."""
    del model.graph.value_info[:]
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        dims = value.type.tensor_type.shape.dim
        static = [dim.dim_value for dim in dims]
        if value.type.tensor_type.HasField("shape") and static == list(shapes[value.name]):
            continue
        del dims[:]
        # a scalar needs the shape field too, empty
        value.type.tensor_type.shape.SetInParent()
        for extent in shapes[value.name]:
            dims.add().dim_value = extent


def clean(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """The model with constants folded, Dropout gone and BatchNorm inside its convolution.

    Where the clean-up fails or loses an input, the model is returned as it was, with a warning in
    the log: cleaning is a help, not a condition.
    """
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = inliner.inline_local_functions(copy)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            slim = onnxslim.slim(copy, skip_fusion_patterns=_UNWANTED_FUSIONS)
    except Exception as error:
        _log.warning("%s: onnxslim failed, importing the model as it is: %s", source, error)
        return copy
    if list(declared_inputs(slim, source)) != list(declared_inputs(model, source)):
        _log.warning("%s: onnxslim changed the inputs, importing the model as it is", source)
        return copy
    return slim


def operators(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of nested graphs (branches, loop bodies) included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from operators(nested)
