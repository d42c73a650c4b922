"""A float32 model computed in a shorter type, as TVM's mixed precision does it.

TVM's pass knows float16 alone. What it makes of a float32 model has that type from conversions
only, so bfloat16 is the same with other conversions.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from familyseer.errors import UserError
from familyseer.models.specs import LoadedModel
from familyseer.tvm_env import load_tvm

_TVMS = "float16"
PRECISIONS = ("float32", "float16", "bfloat16")


def in_precision(model: LoadedModel, precision: str) -> LoadedModel:
    """A model whose products take operands of a shorter type and accumulate in float32.

    Parameters
    ----------
    precision
        One of `PRECISIONS`; ``float32`` gives the model as it is.

    Returns
    -------
    LoadedModel
        Its inputs and outputs keep their types; its `exact` is the model as it was, and its digest
        is another one. Weights that it takes as inputs (see `LoadedModel.mod`) are taken in float32
        and converted at every run.

    Raises
    ------
    UserError
        The precision is not known, or the model has no float32 product to shorten.
    """
    if precision == "float32":
        return model
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision}: expected one of {', '.join(PRECISIONS)}")
    mod = _mixed(model.mod, precision)
    if not _computes_in(mod, precision):
        raise UserError(
            f"{model.source}: no float32 convolution or matrix product that {precision} could "
            "take; expected a float32 model"
        )
    digest = hashlib.sha256(f"{model.digest} {precision}".encode()).hexdigest()
    return replace(model, mod=mod, digest=digest, precision=precision, exact=model.mod)


def _mixed(mod: Any, dtype: str) -> Any:
    tvm = load_tvm()
    from tvm.relax import transform

    passes = [
        transform.ConvertToDataflow(),
        transform.CanonicalizeBindings(),
        transform.ToMixedPrecision(out_dtype="float32"),
        *([_conversions_to(dtype)] if dtype != _TVMS else []),
        # weights are converted here and now, not at every run
        transform.FoldConstant(),
        transform.DeadCodeElimination(["main"]),
        transform.CanonicalizeBindings(),
    ]
    return tvm.transform.Sequential(passes)(mod)


def _conversions_to(dtype: str) -> Any:
    """A pass that has every conversion to TVM's shorter type be one to another type."""
    tvm = load_tvm()
    relax = tvm.relax
    # named for the type checker, which cannot follow TVM's modules
    mutator: Any = relax.PyExprMutator

    @relax.expr_functor.mutator
    class Conversions(mutator):
        def visit_call_(self, call: Any) -> Any:
            call = super().visit_call_(call)
            if getattr(call.op, "name", "") == "relax.astype" and str(call.attrs.dtype) == _TVMS:
                return relax.op.astype(call.args[0], dtype)
            return call

    @tvm.ir.transform.module_pass(opt_level=0)
    def convert(mod: Any, _context: Any) -> Any:
        converted = Conversions(mod)
        for variable, function in mod.functions.items():
            if isinstance(function, relax.Function):
                converted.builder_.update_func(variable, converted.visit_expr(function))
        return converted.builder_.get()

    return convert


def _computes_in(mod: Any, dtype: str) -> bool:
    from familyseer.models._relax import calls

    return any(str(getattr(var.ty, "dtype", "")) == dtype for var, _ in calls(mod))
