"""``familyseer spamm info``: what each tau would keep of a product, and what it would cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from familyseer.cli import _options as options
from familyseer.cli import _spamm_inputs as inputs
from familyseer.errors import UserError

if TYPE_CHECKING:
    from spamm._survey import Survey

_FORMATS = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@click.command("info")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@inputs.block_option
@click.option(
    "--points",
    type=click.IntRange(2, 200),
    default=12,
    show_default=True,
    metavar="K",
    help="How many tau to show.",
)
@inputs.backend_option
@inputs.dtype_option
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw valid ratio and error bound over tau to a .png, .svg or .pdf file.",
)
@options.json_option
def command(
    a: Path,
    b: Path | None,
    block: tuple[int, int, int] | None,
    points: int,
    backend: str,
    dtype: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show what SpAMM would skip of A times B, and bound its error.

    Without B, A is multiplied by itself. Files are .npy, .npz, or Matrix Market (.mtx, .mtx.gz).
    Nothing but norms is computed; the bound is rigorous, and is also shown relative to an
    estimate of the product's norm that is rarely too large.
    """
    from familyseer.cli._output import print_json, results_only

    if plot is not None and plot.suffix.lower() not in _FORMATS:
        raise UserError(f"{plot}: expected a file name that ends in {', '.join(_FORMATS)}")
    with results_only():
        left, right = inputs.read_operands(a, b, dtype)
        shape = (left.shape[0], left.shape[1], right.shape[1])
        name, sizes = inputs.resolve_backend(backend, block, shape, left.dtype)
        found, size = _survey(left, right, shape, sizes, points)
        if plot is not None:
            _plot(found, size, plot)
    if as_json:
        print_json(_document(found, size, left.dtype, name))
        return
    _print(found, size, left, right, name)
    if plot is not None:
        click.echo(f"drawn to {plot}")


def _survey(
    a: Any, b: Any, shape: tuple[int, int, int], block: tuple[int, int, int], points: int
) -> tuple[Survey, float]:
    """The survey, and a cautious estimate of the product's norm; NaN where it is not finite."""
    from spamm._guarantee import probable_norm
    from spamm._norms import block_norms
    from spamm._survey import survey

    bm, bk, bn = block
    norms_a = block_norms(a, bm, bk)
    norms_b = norms_a if b is a and bm == bk == bn else block_norms(b, bk, bn)
    found = survey(norms_a, norms_b, shape, block, points=points)
    return found, probable_norm(a, b, norms_a, norms_b)


def _relative(bound: float, size: float) -> float:
    if bound == 0.0:
        return 0.0
    return bound / size if size > 0.0 else math.nan


def _document(found: Survey, size: float, dtype: Any, backend: str) -> dict[str, Any]:
    rows = [
        {**row._asdict(), "relative_error_bound": _relative(row.error_bound, size)}
        for row in found.rows
    ]
    return {
        "shape": found.shape,
        "dtype": str(dtype),
        "block": found.block,
        "backend": backend,
        "estimated_norm": size,
        "rows": rows,
    }


def _print(found: Survey, size: float, a: Any, b: Any, backend: str) -> None:
    from familyseer.cli._output import print_pairs, print_table

    blocks = f"{inputs.describe_block(found.block)} (backend {backend})"
    norm = "not finite" if math.isnan(size) else f"about {size:.3g}, a cautious estimate"
    print_pairs(
        [
            ("A", inputs.describe(a)),
            ("B", "A" if b is a else inputs.describe(b)),
            ("block", blocks),
            ("norm of AB", norm),
        ]
    )
    click.echo()
    rows = [
        (
            f"{row.tau:.3g}",
            f"{row.valid_ratio:.2%}",
            f"{row.flops_saved:.2%}",
            f"{row.error_bound:.2e}",
            f"{_relative(row.error_bound, size):.1e}".replace("nan", "-"),
        )
        for row in found.rows
    ]
    headings = ("tau", "valid ratio", "flops saved", "error bound", "relative")
    print_table(headings, rows, align=("right",) * 5)


def _plot(found: Survey, size: float, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # neither 0 nor what is not finite has a place on a logarithmic axis
    rows = [row for row in found.rows if row.tau > 0.0]
    bounds = [(row.tau, row.error_bound) for row in rows if 0.0 < row.error_bound < math.inf]
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot([row.tau for row in rows], [row.valid_ratio for row in rows], marker="o")
    above.set(ylabel="valid ratio", ylim=(0.0, 1.02))
    m, k, n = found.shape
    blocks = inputs.describe_block(found.block)
    above.set_title(f"{m} x {k} times {k} x {n}, block {blocks}", fontsize=11)
    if rows:
        below.set_xscale("log")
    relative = size > 0.0
    if bounds:
        below.set_yscale("log")
        scale = size if relative else 1.0
        below.plot([tau for tau, _ in bounds], [bound / scale for _, bound in bounds], marker="o")
    name = "error bound" + (" / estimated norm of AB" if relative else "")
    below.set(xlabel="tau", ylabel=name)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    suffix = path.suffix.lower()
    try:
        # equal drawings give equal files
        with mpl.rc_context({"svg.hashsalt": "familyseer"}):
            figure.savefig(path, format=suffix[1:], dpi=130, metadata=_FORMATS[suffix])
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
