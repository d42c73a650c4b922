"""Finding a model's products with constant weights, and putting SpAMM in their place.

Looked at are ``matmul`` with a constant matrix on either side and ``nn.conv2d`` (NCHW, OIHW, one
group) with a constant weight, of static shapes. A bias and an activation that follow stay
operators of their own, which fuse with each other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import ir, relax

from ops.spamm_operator import Convolution, Operator, Problem
from spamm.cpu._config import ACCUMULATORS

Array = npt.NDArray[Any]

_MAIN = "main"


@dataclass(frozen=True, eq=False)
class Layer:
    """A product with a constant weight in ``main``.

    Attributes
    ----------
    index
        Its number among all such products, in the order of the module.
    name
        Name of the variable that it is bound to.
    op
        ``matmul`` or ``conv2d``.
    constant
        The weight as the module has it; layers that share one have the same.
    call
        The product as the module has it.
    """

    index: int
    name: str
    op: str
    problem: Problem
    constant: Any
    call: Any

    @property
    def weight(self) -> Array:
        """The weight as a matrix: (m, k) where it is the left factor, else (k, n)."""
        problem, value = self.problem, self.constant.value.numpy()
        shape = (problem.m, problem.k) if problem.left else (problem.k, problem.n)
        return np.asarray(value.reshape(shape))

    @cached_property
    def digest(self) -> str:
        """The same for layers whose weights are the same matrix on the same side."""
        told = repr((self.problem.left, self.weight.shape, self.problem.dtype)).encode()
        return hashlib.sha256(told + self.weight.tobytes()).hexdigest()


def find_layers(mod: tvm.IRModule) -> list[Layer]:
    """The products of ``main`` that `replace_layers` can replace, in their order."""
    found: list[Layer] = []
    for variable, call in _calls(mod[_MAIN]):
        described = _describe(call)
        if described is not None:
            op, problem, constant = described
            found.append(Layer(len(found), str(variable.name), op, problem, constant, call))
    return found


def replace_layers(mod: tvm.IRModule, operators: Mapping[int, Operator]) -> tvm.IRModule:
    """The module with operators in place of layers.

    Parameters
    ----------
    mod
        The module that `find_layers` looked at.
    operators
        By the index of the layer that each replaces.
    """
    if not operators:
        return mod
    replacer = _Replacer(mod, operators, {})
    replacer.run()
    return replacer.builder_.get()


def probe_layers(
    mod: tvm.IRModule, operators: Mapping[int, Operator], *, inputs: bool = False
) -> tvm.IRModule:
    """The module with operators in place of layers, whose taus are further parameters.

    ``main`` takes, after its own parameters, one float32 vector of length 1 for each operator, in
    the order of the layers' indices. Its result is (what it was, the norms of each layer's
    activations, and with `inputs` the activations themselves).
    """
    order = sorted(operators)
    # results inside of a dataflow block could not be returned
    mod = relax.transform.ToNonDataflow()(mod)
    taus = {i: relax.Var(f"tau{i}", relax.TensorType((1,), "float32")) for i in order}
    replacer = _Replacer(mod, operators, taus)
    main = replacer.run()
    body = main.body
    told = [replacer.norms[i] for i in order]
    if inputs:
        told += [replacer.inputs[i] for i in order]
    results = [body.body, *told]
    changed = relax.Function(
        [*main.params, *(taus[i] for i in order)],
        relax.SeqExpr(body.blocks, relax.Tuple(results)),
        relax.TupleType([one.ty for one in results]),
    )
    for name, value in dict(main.attrs or {}).items():
        more = len(order) if name == "num_input" else 0
        changed = changed.with_attr(name, int(value) + more if more else value)
    probed = replacer.builder_.get()
    probed.update_func(probed.get_global_var(_MAIN), changed)
    return tvm.transform.Sequential(
        [relax.transform.Normalize(), relax.transform.ConvertToDataflow(1)]
    )(probed)


def layer_module(layer: Layer, operator: Operator | None) -> tvm.IRModule:
    """A module whose ``main`` is one layer, dense or by an operator, and a ReLU after it.

    The ReLU stands for what follows most layers, and fuses with a dense one only.
    """
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(layer.problem.x, layer.problem.dtype))
    with builder.function(_MAIN, [x]):
        with builder.dataflow():
            if operator is None:
                arguments = [
                    layer.constant if a.same_as(layer.constant) else x for a in layer.call.args
                ]
                value = builder.emit(relax.Call(layer.call.op, arguments, layer.call.attrs))
            else:
                value, _ = operator.emit(builder, x)
            result = builder.emit_output(relax.op.nn.relu(value))
        builder.emit_func_output(result)
    return builder.get()


@relax.expr_functor.mutator
class _Replacer(relax.PyExprMutator):
    """Replaces layers by number; keeps each one's activations, and norms where it has a tau."""

    def __init__(
        self, mod: tvm.IRModule, operators: Mapping[int, Operator], taus: Mapping[int, Any]
    ) -> None:
        super().__init__(mod)
        self.mod_, self.operators, self.taus = mod, operators, taus
        self.norms: dict[int, Any] = {}
        self.inputs: dict[int, Any] = {}
        self._next = 0

    def run(self) -> Any:
        """Replaces in ``main``, in the module that ``builder_`` holds; gives the function."""
        variable = self.mod_.get_global_var(_MAIN)
        changed = self.visit_expr(self.mod_[_MAIN])
        self.builder_.update_func(variable, changed)
        return changed

    def visit_call_(self, call: Any) -> Any:
        """A call, or the operator in its place."""
        layer = _describe(call)
        call = self.visit_expr_post_order(call)
        if layer is None:
            return call
        index, problem = self._next, layer[1]
        self._next += 1
        if index not in self.operators:
            return call
        x = call.args[1] if problem.left and problem.convolution is None else call.args[0]
        self.inputs[index] = x
        value, norms = self.operators[index].emit(self.builder_, x, self.taus.get(index))
        if norms is not None:
            self.norms[index] = norms
        return value


def _calls(function: Any) -> Iterator[tuple[Any, Any]]:
    for block in function.body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Call):
                yield binding.var, value


def _describe(call: Any) -> tuple[str, Problem, Any] | None:
    """What kind of layer a call is, its problem and its weight; None if it is none."""
    name = call.op.name if isinstance(call.op, ir.Op) else ""
    if name not in ("relax.matmul", "relax.nn.conv2d"):
        return None
    first, second, out = call.args[0], call.args[1], _shape(call)
    shapes = _shape(first), _shape(second)
    if out is None or shapes[0] is None or shapes[1] is None:
        return None
    if isinstance(first, ir.GenericConst) == isinstance(second, ir.GenericConst):
        return None
    dtype = str(first.ty.dtype)
    if str(second.ty.dtype) != dtype or ACCUMULATORS.get(dtype) != str(call.ty.dtype):
        return None
    if dtype == "bfloat16" or 0 in (*shapes[0], *shapes[1], *out):
        return None
    if name == "relax.nn.conv2d":
        problem = _convolution(call, shapes[0], shapes[1], out, dtype)
        return None if problem is None else ("conv2d", problem, second)
    if isinstance(first, ir.GenericConst):
        problem = _left_product(shapes[0], shapes[1], out, dtype)
        return None if problem is None else ("matmul", problem, first)
    problem = _right_product(shapes[0], shapes[1], out, dtype)
    return None if problem is None else ("matmul", problem, second)


def _shape(expression: Any) -> tuple[int, ...] | None:
    shape = getattr(getattr(expression, "ty", None), "shape", None)
    if not isinstance(shape, relax.ShapeExpr):
        return None
    extents = [getattr(extent, "value", None) for extent in shape.values]
    return (
        None if None in extents else tuple(int(extent) for extent in extents if extent is not None)
    )


def _right_product(
    x: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...], dtype: str
) -> Problem | None:
    if len(weight) != 2 or len(x) < 2:
        return None
    m = math.prod(x[:-1])
    return Problem(False, 1, m, weight[0], weight[1], x, out, dtype)


def _left_product(
    weight: tuple[int, ...], x: tuple[int, ...], out: tuple[int, ...], dtype: str
) -> Problem | None:
    if len(weight) != 2 or len(x) < 2:
        return None
    return Problem(True, math.prod(x[:-2]), weight[0], weight[1], x[-1], x, out, dtype)


def _convolution(
    call: Any, x: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...], dtype: str
) -> Problem | None:
    attrs = call.attrs
    layouts = str(attrs.data_layout), str(attrs.kernel_layout), str(attrs.out_layout or "NCHW")
    if not isinstance(call.args[1], ir.GenericConst) or int(attrs.groups) != 1:
        return None
    if layouts != ("NCHW", "OIHW", "NCHW"):
        return None
    (sy, sx), (dy, dx) = map(int, attrs.strides), map(int, attrs.dilation)
    top, left, bottom, right = map(int, attrs.padding)
    if min(top, left, bottom, right) < 0:
        return None
    convolution = Convolution(
        (x[1], x[2], x[3]), (weight[2], weight[3]), (sy, sx), (top, left, bottom, right), (dy, dx)
    )
    if convolution.out != out[2:]:
        return None
    k, positions = math.prod(weight[1:]), math.prod(convolution.out)
    return Problem(True, x[0], weight[0], k, positions, x, out, dtype, convolution)
