"""``familyseer report``: a finished run as one page, and its plots as files."""

from __future__ import annotations

from pathlib import Path

import click

from familyseer.cli import _options as options
from familyseer.errors import UserError

_FOLDER = click.Path(path_type=Path)


@click.command("report")
@options.out_argument
@click.option("--png", metavar="DIR", type=_FOLDER, help="Draw each plot to a PNG file in DIR too.")
@click.option(
    "--svg", metavar="DIR", type=_FOLDER, help="Draw each plot to an SVG file in DIR too."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The page.  [default: OUT/report.html]",
)
@options.json_option
def command(
    out: Path, png: Path | None, svg: Path | None, output: Path | None, as_json: bool
) -> None:
    """Write what OUT holds as one HTML page.

    The page needs nothing but itself: it can be mailed, printed and read on a phone.
    """
    from familyseer.cli._output import print_json, results_only

    path = output or out / "report.html"
    with results_only():
        from familyseer.report import save_plots, write_report

        try:
            data = write_report(out, path)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror or error}), expected an HTML file"
            ) from None
        wanted = [(folder, kind) for folder, kind in ((png, "png"), (svg, "svg")) if folder]
        plots = [plot for folder, kind in wanted for plot in save_plots(out, folder, kind)]
    if as_json:
        print_json({"report": path, "plots": plots, "missing": data.missing})
        return
    click.echo(f"the report is in {path}")
    for plot in plots:
        click.echo(f"drawn to {plot}")
    for line in data.missing:
        click.echo(f"familyseer: warning: the report leaves out {line}", err=True)
