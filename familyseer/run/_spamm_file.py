"""The layers that a run replaced, kept in its folder for whoever goes on with it or repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.safe_json import load_json, save_json
from spamm._plan import checked_tau

FILE = "spamm.json"


@dataclass(frozen=True)
class Chosen:
    """A layer by its index, the blocks that its weight is cut into, and tau."""

    index: int
    block: tuple[int, int]
    tau: float


def write_choice(out: Path, layers: list[dict[str, Any]]) -> None:
    """Keeps the layers of a run's report; of each, ``index``, ``block`` and ``tau`` are read.

    Without layers there is no file, not even an earlier run's.
    """
    if layers:
        save_json(out / FILE, {"layers": layers})
    else:
        (out / FILE).unlink(missing_ok=True)


def rewritten(out: Path, mod: Any, target: Any) -> Any:
    """The model as a run in the folder `out` tuned it, by the choice that it left there.

    Raises
    ------
    UserError
        The file does not hold such a choice.
    """
    from ops.spamm_rewrite import find_layers, replace_layers

    chosen = read_choice(out)
    if not chosen:
        return mod
    layers = {layer.index: layer for layer in find_layers(mod)}
    return replace_layers(mod, operators_of(layers, chosen, target))


def read_choice(out: Path) -> list[Chosen]:
    """What `write_choice` wrote; nothing where there is no such file.

    Raises
    ------
    UserError
        The file holds something else.
    """
    path, what = out / FILE, "the layers that SpAMM took over"
    if not path.exists():
        return []
    value = load_json(path, what=what)
    try:
        return [
            Chosen(int(one["index"]), _block(one["block"]), checked_tau(one["tau"]))
            for one in value["layers"]
        ]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: expected {what}") from None


def _block(value: Any) -> tuple[int, int]:
    side, depth = value
    if not (0 < int(side) <= 1024 and 0 < int(depth) <= 1024):
        raise ValueError("a block that no run has chosen")
    return int(side), int(depth)


def operators_of(layers: dict[int, Any], chosen: Sequence[Chosen], target: Any) -> dict[int, Any]:
    """Operators for layers, by index; `layers` has them all, by index too.

    Raises
    ------
    UserError
        There is no such layer.
    """
    from ops.spamm_operator import Operator, pack_weight

    operators: dict[int, Any] = {}
    shared: dict[tuple[str, Any], Any] = {}
    for one in chosen:
        if one.index not in layers:
            raise UserError(
                f"{FILE}: the model has no layer {one.index} that SpAMM can take over; expected "
                "what a run of this model chose"
            )
        layer = layers[one.index]
        name = f"spamm{one.index}_{layer.op}"
        packed = pack_weight(layer.problem, layer.weight, target, one.block)
        # layers with the same weight have the same constants
        key = (layer.digest, packed.kernel)
        if key in shared:
            operators[one.index] = shared[key].with_tau(name, one.tau)
        else:
            shared[key] = operators[one.index] = Operator(name, layer.problem, packed, one.tau)
    return operators
