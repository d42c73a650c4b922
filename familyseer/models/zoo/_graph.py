"""The vocabulary that networks are drawn with, and the ONNX graph it writes.

Values are ONNX value names (``str``); each word of the vocabulary emits its nodes and returns the
name of its result. Image values are N x C x H x W, sequence values are batch x sequence x hidden.
Initial weights keep the second moment of activations near one from layer to layer (He et al. 2015
before a ReLU, 1/fan_in elsewhere), so that a network of any depth gives finite, varied outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from familyseer.models.specs import InputSpec
from familyseer.models.zoo._weights import Distribution, Normal, Uniform, WeightSource

_OPSET = 17
_IR_VERSION = 8
_RELU_GAIN = math.sqrt(2.0)


class GraphBuilder:
    """Draws one network.

    Attributes:
        parameters: trainable scalars declared so far.
    """

    def __init__(self, name: str, weights: WeightSource) -> None:
        self.parameters = 0
        self._name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: dict[str, int] = {}

    # -- the graph -----------------------------------------------------------------------------

    def input(self, spec: InputSpec) -> str:
        """Declare a graph input."""
        element = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        self._inputs.append(helper.make_tensor_value_info(spec.name, element, spec.shape))
        return spec.name

    def output(self, name: str, value: str, shape: Sequence[int]) -> None:
        """Make a float32 value an output of the graph, under a name of its own."""
        for node in self._nodes:
            node.input[:] = [name if used == value else used for used in node.input]
            node.output[:] = [name if made == value else made for made in node.output]
        self._outputs.append(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
        )

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Emit one ONNX node with one result."""
        result = self._fresh(op_type)
        self._nodes.append(
            helper.make_node(op_type, list(inputs), [result], name=result, **attributes)
        )
        return result

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Consecutive pieces of the given extents along an axis."""
        results = [self._fresh("Split") for _ in sizes]
        inputs = [x, self.constant(list(sizes))]
        self._nodes.append(helper.make_node("Split", inputs, results, name=results[0], axis=axis))
        return results

    def weight(
        self, role: str, shape: tuple[int, ...], values: Distribution, *, trainable: bool = True
    ) -> str:
        """Declare a float32 weight; ``role`` is a readable stem of its name."""
        name = self._fresh(role)
        self._initializers.append(self._weights.tensor(name, shape, values))
        self.parameters += math.prod(shape) if trainable else 0
        return name

    def constant(self, value: float | Sequence[int]) -> str:
        """Declare a constant: a float32 scalar, or an int64 vector."""
        name = self._fresh("constant")
        dtype = np.float32 if isinstance(value, int | float) else np.int64
        self._initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def model(self) -> onnx.ModelProto:
        """The network drawn so far."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._initializers
        )
        return helper.make_model(
            graph,
            producer_name="familyseer",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )

    def _fresh(self, stem: str) -> str:
        count = self._names.get(stem, 0)
        self._names[stem] = count + 1
        return f"{stem}_{count}"

    # -- images --------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        gain: float = _RELU_GAIN,
    ) -> str:
        """Square convolution over N x C x H x W, scaled for a ReLU behind it."""
        fan_in = channels_in // groups * kernel * kernel
        shape = (channels_out, channels_in // groups, kernel, kernel)
        inputs = [x, self.weight("conv_weight", shape, Normal(gain / math.sqrt(fan_in)))]
        if bias:
            inputs.append(self.weight("conv_bias", (channels_out,), Normal(0.05)))
        return self.op(
            "Conv",
            *inputs,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[padding] * 4,
            group=groups,
        )

    def batch_norm(self, x: str, channels: int, *, gain: float = 1.0) -> str:
        """Inference-time BatchNorm whose statistics are not those of a fresh layer, so that folding
        it away has something to get wrong. ``gain`` scales the result."""
        return self.op(
            "BatchNormalization",
            x,
            self.weight("bn_scale", (channels,), Uniform(0.8 * gain, 1.2 * gain)),
            self.weight("bn_bias", (channels,), Normal(0.05 * gain)),
            self.weight("bn_mean", (channels,), Normal(0.1), trainable=False),
            self.weight("bn_var", (channels,), Uniform(0.7, 1.3), trainable=False),
            epsilon=1e-5,
        )

    def conv_bn(
        self,
        x: str,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        gain: float = 1.0,
    ) -> str:
        """Convolution without bias, padded to keep the extent at stride 1, and BatchNorm."""
        y = self.conv(
            x,
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            groups=groups,
            bias=False,
        )
        return self.batch_norm(y, channels_out, gain=gain)

    def max_pool(
        self, x: str, kernel: int, stride: int, *, padding: int = 0, ceil: bool = False
    ) -> str:
        """Square max pooling; ``ceil`` rounds the output extent up."""
        return self.op(
            "MaxPool",
            x,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[padding] * 4,
            ceil_mode=int(ceil),
        )

    def global_average(self, x: str) -> str:
        """N x C x H x W to N x C."""
        return self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)

    def channel_shuffle(self, x: str, channels: int, groups: int, extent: int) -> str:
        """Interleave the groups of the channels of an N x channels x extent x extent value."""
        split = self.constant([0, groups, channels // groups, extent, extent])
        turned = self.op("Transpose", self.op("Reshape", x, split), perm=[0, 2, 1, 3, 4])
        return self.op("Reshape", turned, self.constant([0, channels, extent, extent]))

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.op("Relu", x)

    def silu(self, x: str) -> str:
        """x sigmoid(x), written out as exporters write it."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def relu6(self, x: str) -> str:
        """min(max(x, 0), 6)."""
        return self.op("Clip", x, self.constant(0.0), self.constant(6.0))

    def add(self, x: str, y: str) -> str:
        """x + y, broadcast as ONNX does."""
        return self.op("Add", x, y)

    # -- sequences -----------------------------------------------------------------------------

    def classifier(self, x: str, features_in: int, features_out: int) -> str:
        """Fully connected layer over N x features, as one Gemm."""
        weight = self.weight(
            "fc_weight", (features_out, features_in), Normal(1 / math.sqrt(features_in))
        )
        bias = self.weight("fc_bias", (features_out,), Normal(0.05))
        return self.op("Gemm", x, weight, bias, transB=1)

    def linear(self, x: str, features_in: int, features_out: int, *, bias: bool = True) -> str:
        """Fully connected layer over the last axis of a value of any rank."""
        weight = self.weight(
            "linear_weight", (features_in, features_out), Normal(1 / math.sqrt(features_in))
        )
        y = self.op("MatMul", x, weight)
        if not bias:
            return y
        return self.add(y, self.weight("linear_bias", (features_out,), Normal(0.05)))

    def embedding(self, ids: str, rows: int, hidden: int) -> str:
        """Rows of a rows x hidden table, picked by int64 ids."""
        return self.op("Gather", self.learned("embedding", (rows, hidden)), ids, axis=0)

    def learned(self, role: str, shape: tuple[int, ...], *, std: float = 1.0) -> str:
        """A weight that is itself a value of the network: a table, a token, position offsets."""
        return self.weight(role, shape, Normal(std))

    def layer_norm(self, x: str, hidden: int, *, epsilon: float = 1e-12) -> str:
        """LayerNorm over the last axis."""
        scale = self.weight("ln_scale", (hidden,), Uniform(0.8, 1.2))
        bias = self.weight("ln_bias", (hidden,), Normal(0.05))
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        """x/2 (1 + erf(x / sqrt 2)), written out as exporters write it."""
        erf = self.op("Erf", self.op("Div", x, self.constant(math.sqrt(2.0))))
        gate = self.add(erf, self.constant(1.0))
        return self.op("Mul", self.op("Mul", x, gate), self.constant(0.5))

    def gelu_tanh(self, x: str) -> str:
        """x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written out as exporters write it."""
        cube = self.op("Mul", x, self.op("Mul", x, x))
        inner = self.add(x, self.op("Mul", cube, self.constant(0.044715)))
        tanh = self.op("Tanh", self.op("Mul", inner, self.constant(math.sqrt(2 / math.pi))))
        gate = self.add(tanh, self.constant(1.0))
        return self.op("Mul", self.op("Mul", x, gate), self.constant(0.5))

    def attention(
        self, x: str, hidden: int, heads: int, *, bias: str | None = None, joint: bool = False
    ) -> str:
        """Multi-head self-attention over batch x sequence x hidden, output projection included.

        ``bias`` is added to the scores (batch x heads x sequence x sequence, or what broadcasts to
        it): 0 where a position may be attended to, very negative where not. ``joint`` makes query,
        key and value with one projection.
        """
        head = hidden // heads
        if joint:
            projected = iter(self.split(self.linear(x, hidden, 3 * hidden), [hidden] * 3, axis=2))
        else:
            projected = (self.linear(x, hidden, hidden) for _ in range(3))
        query = self._heads(next(projected), heads, head, [0, 2, 1, 3])
        # the key leaves its transpose already turned, as exporters do it: one transpose, not two
        key = self._heads(next(projected), heads, head, [0, 2, 3, 1])
        value = self._heads(next(projected), heads, head, [0, 2, 1, 3])
        scores = self.op("Div", self.op("MatMul", query, key), self.constant(math.sqrt(head)))
        if bias is not None:
            scores = self.add(scores, bias)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        merged = self.op("Reshape", mixed, self.constant([0, 0, hidden]))
        return self.linear(merged, hidden, hidden)

    def _heads(self, x: str, heads: int, head: int, order: list[int]) -> str:
        split = self.op("Reshape", x, self.constant([0, 0, heads, head]))
        return self.op("Transpose", split, perm=order)
