"""What is done to an imported Relax module, wherever it came from, and what is read off it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from familyseer.errors import UserError
from familyseer.models._rewrites import rewrite_main
from familyseer.models.input_shapes import DeclaredShape, Dim, bind_shapes
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


def check_main(mod: Any, source: str) -> None:
    """Sees to it that a module is one that can be tuned as a whole.

    Raises:
        UserError: ``main`` is not its one Relax function.
    """
    relax = load_tvm().relax
    names = [
        str(variable.name_hint)
        for variable, function in mod.functions.items()
        if isinstance(function, relax.Function)
    ]
    if names != ["main"]:
        found = ", ".join(sorted(names)) or "none"
        raise UserError(f"{source}: its Relax functions are {found}; expected main alone")


def content_digest(mod: Any) -> str:
    """SHA-256 (hex) of what a module computes, its constants included, whatever names it uses."""
    load_tvm()
    from tvm_ffi import structural_hash

    return hashlib.sha256(f"{structural_hash(mod):x}".encode()).hexdigest()


def bind_extents(mod: Any, source: str, given: Mapping[str, tuple[int, ...]] | None) -> Any:
    """The module with inputs of static shapes.

    Args:
        source: the model, for messages.
        given: input name to extents, for inputs with dynamic dims.

    Raises:
        UserError: an input is no tensor of known rank, or as `bind_shapes`.
    """
    load_tvm()
    from tvm import relax, tirx

    declared: dict[str, DeclaredShape] = {}
    variables: dict[str, Any] = {}
    for param in mod["main"].params:
        if not isinstance(param.ty, relax.TensorType) or param.ty.shape is None:
            raise UserError(f"{source}: input {param.name} is not a tensor of known rank")
        dims: list[Dim] = []
        for extent in param.ty.shape:
            if isinstance(extent, tirx.IntImm):
                dims.append(int(extent))
            else:
                variables[str(extent)] = extent
                dims.append(str(extent))
        declared[param.name] = dims
    shapes = bind_shapes(source, declared, given)
    extents = {
        variables[dim]: shapes[name][axis]
        for name, dims in declared.items()
        for axis, dim in enumerate(dims or ())
        if isinstance(dim, str) and isinstance(variables[dim], tirx.Var)
    }
    return relax.transform.BindSymbolicVars(extents, "main")(mod) if extents else mod


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
