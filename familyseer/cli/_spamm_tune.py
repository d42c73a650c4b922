"""``familyseer spamm tune``: the fastest kernel and blocks for a product, kept for `spamm`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from familyseer.cli import _options as options
from familyseer.cli import _spamm_inputs as inputs
from familyseer.cli._clock import STARTED_AT

_DEFAULT_BUDGET_S = 120.0


@click.command("tune")
@inputs.matrix_arguments
@options.out_option("Folder for the records and the summary.")
@inputs.decay_options
@click.option(
    "--valid-ratio",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    metavar="R",
    help="Share of block products kept with the default blocks.",
)
@inputs.block_option
@inputs.dtype_option
@click.option(
    "--precision",
    type=click.Choice(("tf32",)),
    help="For a GPU: multiply float32 on tensor cores, which round the operands.",
)
@options.target_option
@options.budget_option()
@options.trials_option("configurations", "2m")
@options.seed_option
@options.workers_option("kernels")
@options.resume_option
@options.quiet_option
@options.json_option
def command(
    a: Path | None,
    b: Path | None,
    out: Path,
    decay: str | None,
    size: int | None,
    rate: float | None,
    dtype: str | None,
    budget_s: float | None,
    trials: int | None,
    seed: int,
    quiet: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Find the fastest kernel and block sizes for A times B.

    A and B are files, .npy, .npz or Matrix Market, or matrices made by --decay; A alone is
    multiplied by itself. What is found is used by spamm.matmul on this machine for products of
    about that size, type and valid ratio. Blocks, where they are free, are compared at the error
    bound that the default ones have. Ctrl-C ends the run as its budget would.
    """
    from familyseer.cli._output import native_messages_to, print_json, results_only
    from familyseer.progress import make_observer
    from familyseer.spamm_tasks import SpammOptions

    if budget_s is None and trials is None:
        budget_s = _DEFAULT_BUDGET_S
    asked = SpammOptions(out=out, budget_s=budget_s, trials=trials, seed=seed, **rest)
    with (
        native_messages_to(out / "tuning" / "tvm.log") as stderr,
        results_only(),
        make_observer(quiet, as_json, stderr, started_at=STARTED_AT) as observer,
    ):
        observer.on_phase("loading")
        left, right = inputs.operands(a, b, decay, size, rate, dtype, seed)
        from familyseer.spamm_tasks import tune_spamm

        summary = tune_spamm(asked, left, right, started_at=STARTED_AT, observer=observer)
    if as_json:
        print_json(summary)
    elif not quiet:
        _print(out, summary)


def _print(out: Path, summary: Mapping[str, Any]) -> None:
    from familyseer.cli._ending import _time, _trials, _tuned
    from familyseer.cli._output import print_pairs
    from familyseer.units import format_latency

    config = summary["config"] or {}
    shown = ", ".join(
        f"{name} {'x'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in config.items()
    )
    ratio = summary["valid_ratio"]
    print_pairs(
        [
            ("untuned", format_latency(summary["untuned_us"])),
            ("tuned", _tuned(summary)),
            ("kernel", shown or "none could be measured"),
            ("valid", "-" if ratio is None else f"{ratio:.2%}"),
            ("trials", _trials(summary)),
            ("time", _time(summary)),
            ("records", str(out / "tuning")),
            ("kept in", summary["kept_in"] or "-"),
        ]
    )
