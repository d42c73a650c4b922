"""Places where TVM's importers write something worse than Relax has a word for."""

from __future__ import annotations

import math
from typing import Any


def rewrite_main(mod: Any) -> Any:
    """The module with its ``take`` operators safe and its clips plain.

    * ``take``: the importers ask for the mode that trusts its indices, where a token id out of
      range is a segmentation fault; here it clips.
    * Clip with constant bounds: the ONNX importer emits a chain of NaN checks on the bounds and two
      opaque kernels, so every ReLU6 would cost seconds of constant folding and hide what it is;
      here it is ``relax.clip`` again.
    """
    from tvm import ir, relax

    @relax.expr_functor.mutator
    class Rewrite(relax.PyExprMutator):
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            name = getattr(call.op, "name", "")
            if name == "relax.take" and call.attrs.mode == "fast":
                return relax.op.take(call.args[0], call.args[1], call.attrs.axis, mode="clip")
            return self.clipped(call) if name == "relax.call_tir" else call

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
