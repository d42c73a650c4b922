"""What is done to an imported Relax module, wherever it came from, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from familyseer.models._rewrites import rewrite_main
from familyseer.tvm_env import load_tvm

# operators whose second argument indexes the first
_PICKERS = {"relax.take", "relax.gather_elements", "relax.gather_nd"}


def prepare_for_inference(mod: Any) -> Any:
    """The module without training-only operators and without arithmetic on constants.

    BatchNorm goes into the convolution before it, or becomes arithmetic where there is none.
    """
    tvm = load_tvm()
    from tvm.relax import transform

    passes = [
        # what the rewrites left unused would be folded at the price of a compilation each
        transform.DeadCodeElimination(["main"]),
        transform.DecomposeOpsForInference(),
        transform.FoldConstant(),
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(["main"]),
    ]
    if _folds_batch_norm(mod):
        passes.insert(0, transform.FoldBatchnormToConv2D())
    return tvm.transform.Sequential(passes)(rewrite_main(mod))


def _folds_batch_norm(mod: Any) -> bool:
    """Whether the module has BatchNorm that TVM's folding pass can handle: it adds a float32
    epsilon whatever the variance's type is."""
    dtypes = {
        str(call.args[4].ty.dtype)
        for _, call in calls(mod)
        if call.op.name == "relax.nn.batch_norm"
    }
    return dtypes == {"float32"}


def calls(mod: Any) -> Iterator[tuple[Any, Any]]:
    """(variable, call) of every operator call bound in ``main``, in order; branches left out."""
    from tvm import ir, relax

    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Call) and isinstance(value.op, ir.Op):
                yield binding.var, value


def index_bounds(mod: Any) -> list[int | None]:
    """For every parameter of ``main``, the smallest axis that its values index, or None.

    Values are followed through operators with integer results (casts, reshapes, offsets), which
    can only make a bound smaller than it had to be.
    """
    from tvm import relax

    params = list(mod["main"].params)
    bounds: list[int | None] = [None] * len(params)
    origins: dict[Any, frozenset[int]] = {
        param: frozenset([position]) for position, param in enumerate(params)
    }
    for variable, call in calls(mod):
        sources = [
            origins.get(argument, frozenset()) if isinstance(argument, relax.Var) else frozenset()
            for argument in call.args
        ]
        if call.op.name in _PICKERS:
            extent = _picked_extent(call)
            for position in sources[1]:
                known = bounds[position]
                bounds[position] = extent if known is None else min(known, extent)
        if "int" in str(getattr(variable.ty, "dtype", "")):
            origins[variable] = frozenset().union(*sources)
    return bounds


def _picked_extent(call: Any) -> int:
    """The extent that the indices of a picker must stay below."""
    data, indices = call.args[0], call.args[1]
    extents = [int(extent) for extent in data.ty.shape]
    if call.op.name == "relax.gather_nd":
        first = int(call.attrs.batch_dims)
        return min(extents[first : first + int(indices.ty.shape[-1])])
    axis = call.attrs.axis
    return math.prod(extents) if axis is None else extents[int(axis)]
