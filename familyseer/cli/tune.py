"""``familyseer tune``: a model in, a tuned library and everything known about it out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _completion
from familyseer.cli import _options as options
from familyseer.cli._clock import STARTED_AT
from familyseer.options import MAX_REL_ERROR
from familyseer.tactics import Tactics

_DEFAULT_BUDGET_S = 600.0


@click.command("tune")
@options.model_argument
@options.out_option(
    "Folder for the library, the records and the report.  [required without --dry-run]",
    required=False,
)
@options.target_option
@options.budget_option()
@options.trials_option("candidates", "10m")
@options.families_option
@options.seed_option
@options.workers_option("candidates")
@options.resume_option
@click.option(
    "--warm-start",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    shell_complete=_completion.folders,
    help="Start from what an earlier run, of this or another model, left in DIR; may be repeated.",
)
@click.option(
    "--warm-start-any-target",
    is_flag=True,
    help="Of a DIR for another target, take the shared cost model instead of refusing it.",
)
@options.input_shape_option
@click.option(
    "--without",
    multiple=True,
    metavar="TACTIC",
    type=click.Choice(Tactics.names()),
    help=f"Switch off a part of the search, to see what it earns: {', '.join(Tactics.names())}.",
)
@options.precision_option
@click.option(
    "--spamm",
    is_flag=True,
    help="Skip blocks of products that matter little, in layers with near-sparse weights, within "
    "--max-rel-error.",
)
@click.option(
    "--max-rel-error",
    type=click.FloatRange(min=0, min_open=True),
    metavar="E",
    default=MAX_REL_ERROR,
    show_default=True,
    help="The most that --precision and --spamm together may change an output, relative to its "
    "largest magnitude.",
)
@click.option(
    "--exact-math",
    is_flag=True,
    help="On CPUs, compile exp, tanh, erf and the like as TVM does, mostly to slow calls of the C "
    "library; otherwise to vector code that is within 8 units in the last place.",
)
@options.tracker_option
@options.device_key_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Tune nothing and write nothing: tell subgraphs, families, what the budget can pay for "
    "and the likely gain.",
)
@options.quiet_option
@options.json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    out: Path | None,
    budget_s: float | None,
    trials: int | None,
    input_shapes: tuple[str, ...],
    without: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Tune MODEL and write a library to OUT.

    MODEL is an .onnx file, a .pt2 file, or a name that `familyseer models` lists. Ctrl-C ends the
    run as its budget would: what is known by then is exported.
    """
    from familyseer.cli._ending import print_ending, print_warnings
    from familyseer.cli._output import native_messages_to, print_json, results_only
    from familyseer.options import TuneOptions

    if out is None and not dry_run:
        needed = next(one for one in ctx.command.params if one.name == "out")
        raise click.MissingParameter(ctx=ctx, param=needed)
    options.check_fleet_options(rest["tracker"], rest["device_key"])
    if budget_s is None and trials is None:
        budget_s = _DEFAULT_BUDGET_S
    tune_options = TuneOptions(
        model=model,
        out=out or Path(),
        budget_s=budget_s,
        trials=trials,
        input_shapes=options.parse_input_shapes(input_shapes),
        tactics=Tactics.without(without),
        **rest,
    )
    if dry_run:
        from familyseer.cli._dry_run import dry_run as tell

        tell(tune_options, [] if out is None else [out], quiet=quiet, as_json=as_json)
        return
    assert out is not None
    with native_messages_to(out / "tuning" / "tvm.log") as stderr, results_only():
        summary = _run(tune_options, quiet, as_json, stderr)
    print_warnings(summary, sys.stderr)
    if as_json:
        print_json(summary)
    elif not quiet:
        print_ending(out, summary)


def _run(tune_options: Any, quiet: bool, as_json: bool, stderr: Any) -> dict[str, Any]:
    from familyseer.progress import make_observer

    # shown before the driver is imported, which takes a moment
    with make_observer(quiet, as_json, stderr, started_at=STARTED_AT) as observer:
        observer.on_phase("loading")
        if tune_options.tracker is not None:
            from familyseer.fleet import check_fleet

            # before the model is loaded, which may take long
            check_fleet(tune_options.tracker, tune_options.device_key)
        from familyseer.run import tune

        summary: dict[str, Any] = tune(tune_options, started_at=STARTED_AT, observer=observer)
        return summary
