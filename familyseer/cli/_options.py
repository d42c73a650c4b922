"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _completion
from familyseer.duration import parse_duration
from familyseer.errors import UserError

# as familyseer.families.METHODS, which would import networkx for the help
FAMILY_METHODS = ("op", "sequence", "graph", "none")

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_FOLDER = click.Path(path_type=Path)

model_argument: _Decorator = click.argument(
    "model", metavar="MODEL", shell_complete=_completion.models
)


def out_argument_named(name: str, metavar: str = "OUT") -> _Decorator:
    """The folder of a run."""
    return click.argument(name, metavar=metavar, type=_FOLDER, shell_complete=_completion.folders)


out_argument: _Decorator = out_argument_named("out")
json_option: _Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
seed_option: _Decorator = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, metavar="N"
)
target_option: _Decorator = click.option(
    "--target",
    metavar="TARGET",
    shell_complete=_completion.targets,
    help="llvm, cuda, a tag of TVM, a GPU's architecture such as sm_90, or JSON.  [default: this "
    "machine's CPU]",
)
families_option: _Decorator = click.option(
    "--families",
    type=click.Choice(FAMILY_METHODS),
    default=FAMILY_METHODS[0],
    show_default=True,
    help="How subgraphs are put into families.",
)
input_shape_option: _Decorator = click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="NAME=1,3,224,224",
    help="Extents of an input whose shape the model leaves open; may be repeated.",
)

precision_option: _Decorator = click.option(
    "--precision",
    # as familyseer.models._precision.PRECISIONS
    type=click.Choice(("float32", "float16", "bfloat16")),
    default="float32",
    show_default=True,
    help="What a float32 model's products are computed in; they still accumulate in float32.",
)
tracker_option: _Decorator = click.option(
    "--tracker",
    metavar="HOST:PORT",
    help="Measure on the devices of this TVM RPC tracker; with --device-key.",
)
device_key_option: _Decorator = click.option(
    "--device-key", metavar="KEY", help="The key that the devices' RPC servers were started with."
)


resume_option: _Decorator = click.option(
    "--resume", is_flag=True, help="Go on from what an earlier run left in OUT."
)
quiet_option: _Decorator = click.option(
    "--quiet", is_flag=True, help="Print nothing but warnings and errors."
)


def out_option(text: str, *, required: bool = True) -> _Decorator:
    """``-o OUT`` of a run, explained by a text."""
    return click.option(
        "-o",
        "--out",
        required=required,
        metavar="OUT",
        type=_FOLDER,
        shell_complete=_completion.folders,
        help=text,
    )


def trials_option(what: str, budget: str) -> _Decorator:
    """``--trials N``, of what is measured, for a command with a default budget."""
    return click.option(
        "--trials",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Measure at most N {what}.  [default: as many as --budget allows, which is {budget} "
        "where neither is given]",
    )


def workers_option(what: str) -> _Decorator:
    """``--workers N``, of what is built."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Processes that build {what}.  [default: as many as suit this machine]",
    )


def repeat_option(default: int) -> _Decorator:
    """``--repeat N``, for what is timed."""
    return click.option(
        "--repeat",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar="N",
        help="Measure N times.",
    )


def budget_option(required: bool = False) -> _Decorator:
    """``--budget``, in seconds for the command."""
    return click.option(
        "--budget",
        "budget_s",
        required=required,
        metavar="TIME",
        callback=lambda _ctx, _parameter, text: None if text is None else parse_budget(text),
        help="Wall-clock time of the whole run: 90, 90s, 10m, 1h30m.",
    )


def parse_budget(text: str) -> float:
    """Seconds of a ``--budget``.

    Raises
    ------
    UserError
        As `parse_duration`, naming the option.
    """
    try:
        return parse_duration(text)
    except UserError as error:
        raise UserError(f"--budget: {error}") from None


def check_fleet_options(tracker: str | None, device_key: str | None) -> None:
    """Sees to it that ``--tracker`` and ``--device-key`` make sense together.

    Raises
    ------
    UserError
        Only one of them is given, or the tracker is no ``HOST:PORT``.
    """
    if device_key is not None and tracker is None:
        raise UserError(f"--device-key {device_key}: expected --tracker HOST:PORT too")
    if tracker is None:
        return
    from familyseer.fleet import parse_tracker

    parse_tracker(tracker)
    if not device_key:
        raise UserError(f"--tracker {tracker}: expected --device-key KEY too")


def parse_input_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of all ``--input-shape`` options, by input name.

    Raises
    ------
    UserError
        A text is no ``name=1,3,224,224``, or two of them name one input.
    """
    if not texts:
        return {}
    from familyseer.models import parse_input_shape

    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, shape = parse_input_shape(text)
        if name in shapes:
            raise UserError(f"--input-shape {text}: expected each input once, {name} came before")
        shapes[name] = shape
    return shapes
