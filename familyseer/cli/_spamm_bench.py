"""``familyseer spamm bench``: SpAMM against NumPy's dense product, on this machine."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from familyseer.cli import _options as options
from familyseer.cli import _spamm_inputs as inputs
from familyseer.errors import RunError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CRITERIA = ("valid_ratio", "tau", "max_rel_error")
_DEFAULT_RATIOS = "0.05,0.1,0.25"


@click.command("bench")
@inputs.matrix_arguments
@inputs.decay_options
@click.option(
    "--valid-ratio",
    metavar="R,R,...",
    help=f"Shares of block products to keep.  [default: {_DEFAULT_RATIOS}]",
)
@click.option("--tau", metavar="T,T,...", help="Instead: the least norm products to keep.")
@click.option("--max-rel-error", metavar="E,E,...", help="Instead: errors that must not be passed.")
@inputs.block_option
@inputs.backend_option
@inputs.dtype_option
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Measure N times, in turns.",
)
@options.seed_option
@options.json_option
def command(
    a: Path | None,
    b: Path | None,
    decay: str | None,
    size: int | None,
    rate: float | None,
    block: tuple[int, int, int] | None,
    backend: str,
    dtype: str | None,
    repeat: int,
    seed: int,
    as_json: bool,
    **criteria: str | None,
) -> None:
    """Time SpAMM of A times B against NumPy's dense product.

    A and B are files, .npy, .npz or Matrix Market, or matrices made by --decay; A alone is
    multiplied by itself. Planning and
    multiplying are timed apart; the speed-up counts both. The dense product is NumPy's: in float32
    for types narrower than that, and the conversion is not counted.
    """
    from familyseer.cli._output import print_json, results_only

    criterion, values = _criterion(criteria)
    with results_only():
        left, right = inputs.operands(a, b, decay, size, rate, dtype, seed)
        shape = (left.shape[0], left.shape[1], right.shape[1])
        name, sizes = inputs.resolve_backend(backend, block, shape, left.dtype)
        rows = _measure(left, right, criterion, values, name, sizes, repeat)
    document = {
        "shape": shape,
        "dtype": str(left.dtype),
        "block": sizes,
        "backend": name,
        "repeats": repeat,
        "rows": rows,
    }
    if as_json:
        print_json(document)
    else:
        _print(document)


def _criterion(given: dict[str, str | None]) -> tuple[str, list[float]]:
    named = {name: text for name, text in given.items() if text is not None}
    if len(named) > 1:
        options_given = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(named))
        raise UserError(f"{options_given}: expected only one of them")
    name, text = next(iter(named.items())) if named else (_CRITERIA[0], _DEFAULT_RATIOS)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--{name.replace('_', '-')} {text}: expected numbers with commas between them"
        ) from None
    return name, values


def _measure(
    a: NDArray[Any],
    b: NDArray[Any],
    criterion: str,
    values: list[float],
    backend: str,
    block: tuple[int, int, int],
    repeat: int,
) -> list[dict[str, Any]]:
    import numpy as np

    # its function `plan` takes one of three criteria, by a name that only the user knows
    spamm: Any = importlib.import_module("spamm")
    kind = a.dtype if a.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    wide_a = a.astype(kind, copy=False)
    wide_b = wide_a if b is a else b.astype(kind, copy=False)
    dense = np.empty((a.shape[0], b.shape[1]), kind)
    out = np.empty_like(dense)

    def run_dense() -> None:
        with np.errstate(all="ignore"):
            np.matmul(wide_a, wide_b, out=dense)

    rows = []
    for value in values:
        # the first plan tells whether the arguments make sense
        with inputs.user_errors():
            plan = spamm.plan(a, b, block=block, backend=backend, **{criterion: value})
        found = _one(
            run_dense,
            lambda value=value: spamm.plan(
                a, b, block=block, backend=backend, **{criterion: value}
            ),
            lambda plan=plan: spamm.multiply(plan, a, b, backend=backend, out=out),
            repeat,
        )
        with np.errstate(all="ignore"):
            size = float(np.linalg.norm(dense))
            error = float(np.linalg.norm(out - dense))
        _check(error, plan.error_bound, size, a.dtype)
        rows.append(
            {
                criterion: value,
                "tau": plan.tau,
                "valid_ratio": plan.valid_ratio,
                **found,
                "rel_error": error / size if size else 0.0,
                "rel_error_bound": plan.error_bound / size if size else 0.0,
            }
        )
    return rows


def _check(error: float, bound: float, size: float, dtype: Any) -> None:
    """RunError where a product is wrong: figures of such a one mean nothing."""
    import numpy as np

    narrow = dtype.itemsize == 2
    rounding = 1e-2 if narrow else 1e3 * float(np.finfo(dtype).eps)
    # not what is NaN: that is neither right nor wrong
    if error > bound + rounding * size:
        raise RunError(f"the product is wrong by {error:.2e}, and the bound is {bound:.2e}")


def _one(dense: Any, plan: Any, multiply: Any, repeat: int) -> dict[str, float]:
    """Medians, and the median over rounds of how many times faster planning and multiplying are."""
    from statistics import median

    from spamm._timing import in_turns

    times = in_turns({"dense": dense, "plan": plan, "multiply": multiply}, repeat)
    ratios = [
        whole / (planning + multiplying)
        for whole, planning, multiplying in zip(*times.values(), strict=True)
    ]
    return {
        **{f"{name}_us": median(seconds) * 1e6 for name, seconds in times.items()},
        "speedup": median(ratios),
    }


def _print(document: dict[str, Any]) -> None:
    from familyseer.cli._output import print_pairs, print_table
    from familyseer.units import format_latency, format_ratio

    m, k, n = document["shape"]
    block = inputs.describe_block(document["block"])
    print_pairs(
        [
            ("product", f"{m} x {k} times {k} x {n}, {document['dtype']}"),
            ("block", f"{block} (backend {document['backend']})"),
            ("measured", f"{document['repeats']} times, medians"),
        ]
    )
    click.echo()
    rows = [
        (
            f"{row['tau']:.3g}",
            f"{row['valid_ratio']:.2%}",
            format_latency(row["plan_us"]),
            format_latency(row["multiply_us"]),
            format_latency(row["dense_us"]),
            format_ratio(row["speedup"]),
            _scientific(row["rel_error"]),
            _scientific(row["rel_error_bound"]),
        )
        for row in document["rows"]
    ]
    headings = ("tau", "valid", "plan", "multiply", "dense", "speed-up", "error", "bound")
    print_table(headings, rows, align=("right",) * 8)
    click.echo()
    click.echo("speed-up: dense over plan and multiply; error and bound: of the product's norm,")
    click.echo("the error with the rounding of both products")


def _scientific(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "-"
