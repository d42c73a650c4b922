"""``familyseer families``: which subgraphs of a model belong together, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from familyseer.cli import _options as options

if TYPE_CHECKING:
    from familyseer.families import Family
    from familyseer.subgraphs import Subgraph


@click.command("families")
@options.model_argument
@options.families_option
@options.target_option
@options.input_shape_option
@options.seed_option
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the graph of subgraphs to a .png, .svg or .pdf file.",
)
@options.json_option
def command(
    model: str,
    families: str,
    target: str | None,
    input_shapes: tuple[str, ...],
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show the families of MODEL's subgraphs.

    Nothing is tuned.
    """
    from familyseer.cli._output import print_json, results_only

    shapes = options.parse_input_shapes(input_shapes)
    with results_only():
        from familyseer.families import families_json, form_families, plot_families
        from familyseer.target import describe_target

        subgraphs, resolved = _subgraphs(model, target, shapes, seed)
        formed = form_families(subgraphs, families, seed=seed)
        if plot is not None:
            plot_families(subgraphs, formed, plot)
        document = families_json(formed, subgraphs, families)
    if as_json:
        print_json({"model": model, "target": describe_target(resolved), **document})
        return
    _print_families(formed, subgraphs)
    if plot is not None:
        click.echo(f"drawn to {plot}")


def _subgraphs(
    model: str, target: str | None, shapes: dict[str, tuple[int, ...]], seed: int
) -> tuple[list[Subgraph], Any]:
    from familyseer.models import load_model
    from familyseer.subgraphs import subgraphs_of
    from familyseer.target import resolve_target

    # the target first: it fails sooner than a large model loads
    resolved = resolve_target(target)
    loaded = load_model(model, input_shapes=shapes, seed=seed)
    return subgraphs_of(loaded.mod, resolved, model), resolved


def _print_families(formed: list[Family], subgraphs: list[Subgraph]) -> None:
    from familyseer.cli._output import print_table
    from familyseer.families import families_table
    from familyseer.units import format_count, format_percent

    rows = [
        (row.family.name, member.name, str(member.weight), format_percent(member.share))
        for row in families_table(formed, subgraphs)
        for member in row.members
    ]
    headings = ("family", "subgraph", "weight", "share of flops")
    print_table(headings, rows, align=("left", "left", "right", "right"))
    click.echo()
    # a table of its own: a sentence beside every subgraph does not fit a terminal
    print_table(("family", "why"), [(family.name, family.reason) for family in formed])
    click.echo()
    families = format_count(len(formed), "family", "families")
    click.echo(f"{format_count(len(subgraphs), 'subgraph')} in {families}")
