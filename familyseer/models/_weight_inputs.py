"""A module that takes its weights as inputs: what is computed from them alone leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from familyseer.models.specs import InputSpec
from familyseer.tvm_env import load_tvm

_TRANSFORM = "main_transform_params"


def lift_weights(
    mod: Any, inputs: Sequence[InputSpec], weights: Sequence[InputSpec]
) -> tuple[Any, list[InputSpec]]:
    """The module without arithmetic on weights, and the weights that it takes from now on.

    Where weights are constants, a table that is turned or cut is folded before anything is tuned;
    here the folded value is taken as a weight of its own, so that the subgraphs are the same ones.

    Args:
        mod: its ``main`` takes ``inputs``, then ``weights``.

    Returns:
        The module, and the weights in the order of its parameters. One that was computed is named
        after the weight it was computed from and drawn as that one is: the networks of the zoo do
        no more than turn, cut and reshape theirs.
    """
    tvm = load_tvm()
    from tvm.relax import transform

    name = "main"
    lifted = mod.clone()
    marked = mod[name].with_attr("num_input", len(inputs))
    lifted.update_func(lifted.get_global_var(name), marked)
    lifted = transform.LiftTransformParams()(lifted)
    taken = _taken(lifted[_TRANSFORM], weights)
    del lifted[_TRANSFORM]
    lifted.update_func(lifted.get_global_var(name), lifted[name].without_attr("num_input"))
    return tvm.relax.transform.DeadCodeElimination([name])(lifted), taken


def _taken(prepare: Any, weights: Sequence[InputSpec]) -> list[InputSpec]:
    """What a function from a tuple of weights to a tuple of prepared weights gives, in order."""
    from tvm import relax

    origins: dict[Any, InputSpec] = {}
    results: list[Any] = []
    for block in prepare.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Tuple):
                results = list(value.fields)
            elif isinstance(value, relax.TupleGetItem):
                origins[binding.var] = weights[int(value.index)]
            else:
                sources = value.args if isinstance(value, relax.Call) else [value]
                found = [origins[source] for source in sources if source in origins]
                shape = tuple(int(extent) for extent in binding.var.ty.shape)
                origins[binding.var] = replace(found[0], shape=shape)
    return _numbered([origins[result] for result in results])


def _numbered(specs: Sequence[InputSpec]) -> list[InputSpec]:
    """The same with names that occur once."""
    seen: dict[str, int] = {}
    unique = []
    for spec in specs:
        count = seen[spec.name] = seen.get(spec.name, 0) + 1
        unique.append(spec if count == 1 else replace(spec, name=f"{spec.name}.{count}"))
    return unique
