"""``familyseer compare``: several tuners, one model, the same time for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from familyseer.cli import _completion
from familyseer.cli import _options as options
from familyseer.errors import UserError
from familyseer.tuners import OURS, RANDOM, STOCK, TUNERS, check_tuner

_DEFAULT = (OURS, STOCK, RANDOM)


def _parse_tuners(_ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"--tuners {text}: expected some of {','.join(TUNERS)}, each once, with commas between"
        )
    try:
        return tuple(check_tuner(name) for name in names)
    except UserError as error:
        raise UserError(f"--tuners {text}: {error}") from None


@click.command("compare")
@options.model_argument
@options.budget_option(required=True)
@click.option(
    "--tuners",
    default=",".join(_DEFAULT),
    show_default=True,
    metavar="A,B",
    callback=_parse_tuners,
    shell_complete=_completion.tuners,
    help="Which tuners, in which order.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs a tuner, each with the next seed.",
)
@options.seed_option
@options.target_option
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="GPUs of this host that each tuner is shown.  [default: 1 with stock metaschedule, which "
    "can use no more, else all]",
)
@options.input_shape_option
@options.precision_option
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    shell_complete=_completion.folders,
    help="Folder for what the runs leave.  [default: out/compare-MODEL]",
)
@options.json_option
def command(
    model: str,
    budget_s: float,
    input_shapes: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Tune MODEL with several tuners and compare.

    Each gets the time of --budget, and every library is measured end to end in the same way as the
    untuned one.
    """
    from familyseer.cli._output import print_json, results_only
    from familyseer.options import CompareOptions

    out = out or Path("out") / f"compare-{_stem(model)}"
    compare_options = CompareOptions(
        model=model,
        out=out,
        budget_s=budget_s,
        input_shapes=options.parse_input_shapes(input_shapes),
        **rest,
    )
    with results_only():
        from familyseer.compare import compare

        result: dict[str, Any] = compare(compare_options)
    if as_json:
        print_json(result)
    else:
        _print_runs(result["runs"])
        _print_reach(result["reach"])
        click.echo()
        _print_gpus(result["runs"])
        click.echo(f"runs and curves are in {out}")


def _stem(model: str) -> str:
    """What a model is called in a folder's name: a file's stem, or the whole name of a network."""
    path = Path(model)
    return path.stem if path.suffix in (".onnx", ".pt2") else path.name


def _print_runs(runs: list[dict[str, Any]]) -> None:
    """Prints a row a run, with what it found, measured end to end."""
    from familyseer.cli._output import print_table
    from familyseer.duration import format_duration
    from familyseer.units import format_latency, format_ratio

    rows = [
        (
            str(run["tuner"]),
            str(run["seed"]),
            format_latency(run["untuned_us"]),
            format_latency(run["tuned_us"]),
            format_ratio(run["speedup"]),
            str(run["trials"]),
            _first_pass(run),
            format_duration(run["elapsed_s"]),
        )
        for run in runs
    ]
    headings = ("tuner", "seed", "untuned", "tuned", "speedup", "trials", "first pass", "time")
    print_table(headings, rows, align=("left",) + ("right",) * 7)


def _first_pass(run: dict[str, Any]) -> str:
    """Whether every subgraph was measured, without which a latency says little of a tuner."""
    if run["first_pass_finished"]:
        return "done"
    return f"{run['covered']} of {run['subgraphs']}"


def _print_gpus(runs: list[dict[str, Any]]) -> None:
    """Prints a line of how many GPUs measured for each tuner, if any did."""
    used = {str(run["tuner"]): run["gpus"] for run in runs if run.get("gpus") is not None}
    if used:
        click.echo("GPUs that measured: " + ", ".join(f"{one} {n}" for one, n in used.items()))


def _print_reach(pairs: list[dict[str, Any]]) -> None:
    """Prints how soon each tuner was as good as another in the end, where it ever was."""
    from familyseer.cli._output import print_table
    from familyseer.duration import format_duration
    from familyseer.units import format_ratio

    rows = [
        (
            str(pair["tuner"]),
            str(pair["reaches"]),
            f"{pair['reached']} of {pair['rounds']}",
            format_duration(pair["time_s"]),
            format_ratio(pair["time_ratio"]),
            format_ratio(pair["trial_ratio"]),
        )
        for pair in pairs
        if pair["reached"]
    ]
    if not rows:
        return
    click.echo()
    headings = ("tuner", "reaches the end of", "rounds", "after", "sooner", "fewer trials")
    print_table(headings, rows, align=("left", "left", "right", "right", "right", "right"))
