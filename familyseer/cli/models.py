"""``familyseer models``: the networks that can be named in place of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from familyseer.cli import _options as options

if TYPE_CHECKING:
    from familyseer.models import ModelCard


@click.command("models")
@click.option(
    "--save",
    nargs=2,
    type=(str, click.Path(path_type=Path)),
    metavar="NAME FILE.onnx",
    help="Write one of them as an ONNX file instead of listing them; the weights of a huge one go "
    "to FILE.onnx.data.",
)
@options.seed_option
@options.json_option
def command(save: tuple[str, Path] | None, seed: int, as_json: bool) -> None:
    """List the networks that `tune` knows by name.

    They are built in code with random weights, which --seed draws. The huge ones take their weights
    as inputs, so that looking at them does not allocate any.
    """
    from familyseer.cli._output import print_json, print_pairs, results_only
    from familyseer.models import zoo

    if save is not None:
        name, path = save
        with results_only():
            zoo.save(name, path, seed=seed)
        saved = {"model": name, "file": str(path), "seed": seed}
        print_json(saved) if as_json else print_pairs([(name, f"written to {path}")])
        return
    cards = [zoo.describe(name) for name in zoo.names()]
    if as_json:
        print_json({"models": [_card_json(card) for card in cards]})
    else:
        _print_cards(cards)


def _print_cards(cards: list[ModelCard]) -> None:
    from familyseer.cli._output import print_table

    rows = [
        (
            card.name,
            f"{card.parameters / 1e6:.1f} M",
            ", ".join(f"{i.name} {'x'.join(map(str, i.shape))} {i.dtype}" for i in card.inputs),
            card.description,
        )
        for card in cards
    ]
    headings = ("name", "parameters", "inputs", "description")
    print_table(headings, rows, align=("left", "right"))


def _card_json(card: ModelCard) -> dict[str, Any]:
    from familyseer.models import zoo

    inputs = [{"name": i.name, "shape": i.shape, "dtype": i.dtype} for i in card.inputs]
    return {
        "name": card.name,
        "description": card.description,
        "parameters": card.parameters,
        "inputs": inputs,
        "weights": "inputs" if zoo.is_huge(card.name) else "constants",
    }
