"""Places where TVM's importers write something worse than Relax has a word for."""

from __future__ import annotations

import math
from typing import Any

_BATCH_NORM = ("epsilon", "center", "scale", "momentum", "training")


def rewrite_main(mod: Any) -> Any:
    """The module with its ``take`` operators safe and its clips plain.

    * ``take``: the importers ask for the mode that trusts its indices, where a token id out of
      range is a segmentation fault; here it clips.
    * Clip with constant bounds: the ONNX importer emits a chain of NaN checks on the bounds and two
      opaque kernels, so every ReLU6 would cost seconds of constant folding and hide what it is;
      here it is ``relax.clip`` again.
    * BatchNorm after a convolution with a bias: TVM's pass folds it into convolutions without one,
      so the bias goes into the mean that BatchNorm takes off.
    """
    from tvm import ir, relax

    @relax.expr_functor.mutator
    class Rewrite(relax.PyExprMutator):
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            name = getattr(call.op, "name", "")
            if name == "relax.take" and call.attrs.mode == "fast":
                return relax.op.take(call.args[0], call.args[1], call.attrs.axis, mode="clip")
            if name == "relax.nn.batch_norm":
                return self.unbiased(call)
            return self.clipped(call) if name == "relax.call_tir" else call

        def unbiased(self, call: Any) -> Any:
            added, mean, axis = self.lookup(call.args[0]), call.args[3], int(call.attrs.axis)
            if getattr(getattr(added, "op", None), "name", "") != "relax.add":
                return call
            convolution = self.lookup(added.args[0])
            if getattr(getattr(convolution, "op", None), "name", "") != "relax.nn.conv2d":
                return call
            bias = self.constant(added.args[1])
            if bias is None or not isinstance(mean, ir.GenericConst) or call.attrs.training:
                return call
            channels = mean.value.numpy()
            if bias.ndim != added.args[0].ty.ndim or bias.shape[axis] != bias.size:
                return call
            if bias.size != channels.size:
                return call
            rest = {key: getattr(call.attrs, key) for key in _BATCH_NORM}
            moved = relax.const(channels - bias.reshape(-1), mean.ty.dtype)
            gamma, beta, variance = call.args[1], call.args[2], call.args[4]
            return relax.op.nn.batch_norm(
                added.args[0], gamma, beta, moved, variance, axis=axis, **rest
            )

        def constant(self, expression: Any) -> Any:
            """The constant behind an expression, through a reshape; None if there is none."""
            value = self.lookup(expression)
            if getattr(getattr(value, "op", None), "name", "") == "relax.reshape":
                value = self.lookup(value.args[0])
            if not isinstance(value, ir.GenericConst):
                return None
            return value.value.numpy().reshape([int(extent) for extent in expression.ty.shape])

        def clipped(self, call: Any) -> Any:
            kernel = call.args[0].name_hint.rstrip("0123456789")
            operands = list(call.args[1].fields) if isinstance(call.args[1], relax.Tuple) else []
            if kernel not in ("maximum", "minimum") or len(operands) != 2:
                return call
            x, bound = operands[0], self.scalar(operands[1])
            if bound is None or x.ty.ndim != call.ty.ndim:
                return call
            if kernel == "maximum":
                return relax.op.maximum(x, bound)
            below = self.lookup(x)
            if getattr(getattr(below, "op", None), "name", "") == "relax.maximum":
                low = self.scalar(below.args[1])
                if low is not None:
                    limits = low.value.numpy().item(), bound.value.numpy().item()
                    return relax.op.clip(below.args[0], *limits)
            return relax.op.minimum(x, bound)

        def scalar(self, bound: Any) -> Any:
            """The finite scalar constant behind a bound, through its NaN check; None if none."""
            value = self.lookup(bound)
            if getattr(getattr(value, "op", None), "name", "") == "relax.where":
                value = self.lookup(value.args[2])
            if not isinstance(value, ir.GenericConst) or value.value.numpy().ndim != 0:
                return None
            return value if math.isfinite(float(value.value.numpy())) else None

        def lookup(self, expression: Any) -> Any:
            if not isinstance(expression, relax.Var):
                return expression
            return self.lookup_binding(expression)

    mutator = Rewrite(mod)
    mod = mod.clone()
    mod.update_func(mod.get_global_var("main"), mutator.visit_expr(mod["main"]))
    return mod
