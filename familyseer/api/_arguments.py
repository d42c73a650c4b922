"""What `familyseer.tune` is given, checked and put as the driver takes it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from familyseer.duration import parse_duration
from familyseer.errors import UserError
from familyseer.models.loading import is_a
from familyseer.options import TuneOptions
from familyseer.tactics import Tactics

PathName = Union[str, "os.PathLike[str]"]

_DEFAULT_BUDGET_S = 600.0
# options of the command line, as messages name them, that are called otherwise here
_ARGUMENTS = {
    "resume": "resume=True",
    "warm-start-any-target": "warm_start_any_target=True",
    "input-shape": "input_shapes",
}
# as words of a message, not as parts of a path in it
_OPTION = re.compile(r"(?<![^\s(])--([a-z]+(?:-[a-z]+)*)")


def name_of(model: Any, example_inputs: Any) -> str:
    """The path or name that a model is given by, or what one in memory is called.

    Raises
    ------
    UserError
        There are example inputs, and it is no PyTorch module.
    """
    if is_a(model, "torch.nn", "Module"):
        return type(model).__name__
    if example_inputs is not None:
        raise UserError(
            "example_inputs are given: expected them for a torch.nn.Module alone (input_shapes "
            "gives the shapes that another model leaves open)"
        )
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    if is_a(model, "onnx", "ModelProto") and model.graph.name:
        return str(model.graph.name)
    return type(model).__name__


def seconds(budget: str | float | None, trials: int | None) -> float | None:
    """A budget in seconds.

    Raises
    ------
    UserError
        It is no duration above zero.
    """
    if budget is None:
        return _DEFAULT_BUDGET_S if trials is None else None
    if isinstance(budget, bool) or not isinstance(budget, (str, int, float)):
        raise UserError(f"budget {budget!r}: expected seconds, or a time such as '10m'")
    try:
        return parse_duration(budget if isinstance(budget, str) else f"{budget:f}")
    except UserError:
        raise UserError(
            f"budget {budget!r}: expected seconds, or a time such as '90s', '10m' or '1h30m', "
            "above zero and at most a year"
        ) from None


def whole_number(name: str, value: int | None, *, least: int) -> int | None:
    """A whole number that an argument has to be.

    Raises
    ------
    UserError
        It is something else, or too small or too large.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise UserError(f"{name} {value!r}: expected a whole number from {least}")
    return value


def target(given: Any) -> str | None:
    """A target as `familyseer.target.resolve_target` takes it."""
    if given is None or isinstance(given, str):
        return given
    # TVM's own writes itself as JSON
    return json.dumps(given) if isinstance(given, Mapping) else str(given)


def shapes(given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Input shapes by name.

    Raises
    ------
    UserError
        One is not a sequence of whole numbers.
    """
    try:
        return {str(name): tuple(int(n) for n in shape) for name, shape in (given or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"input_shapes {given!r}: expected a dict of shapes such as {{'x': (1, 3, 224, 224)}}"
        ) from None


def paths(given: PathName | Sequence[PathName]) -> tuple[Path, ...]:
    """One folder or several."""
    several = (given,) if isinstance(given, (str, os.PathLike)) else given
    return tuple(Path(one) for one in several)


def tactics(without: Sequence[str]) -> Tactics:
    """All parts of the search but some.

    Raises
    ------
    UserError
        One is not known.
    """
    names = (without,) if isinstance(without, str) else tuple(without)
    for name in names:
        if name not in Tactics.names():
            raise UserError(f"without {name!r}: expected some of {', '.join(Tactics.names())}")
    return Tactics.without(names)


def check(options: TuneOptions) -> None:
    """What the command line's own options see to, before anything is loaded.

    Raises
    ------
    UserError
        A value is not one that a run can have.
    """
    from familyseer.families import METHODS

    if options.families not in METHODS:
        raise UserError(f"families {options.families!r}: expected one of {', '.join(METHODS)}")
    if not options.max_rel_error > 0:
        raise UserError(f"max_rel_error {options.max_rel_error!r}: expected a number above 0")
    if (options.tracker is None) != (options.device_key is None):
        raise UserError("one of tracker and device_key is given: expected both or none")
    if options.tracker is not None:
        from familyseer.fleet import parse_tracker

        parse_tracker(options.tracker)


def in_python(message: str) -> str:
    """A message with the arguments of `tune` in place of the command line's options."""

    def argument(option: re.Match[str]) -> str:
        name = option.group(1)
        return _ARGUMENTS.get(name, name.replace("-", "_"))

    return _OPTION.sub(argument, message)
