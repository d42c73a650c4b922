"""``familyseer export``: the tuned kernels of a run as a library that needs no TVM."""

from __future__ import annotations

from pathlib import Path

import click

from familyseer.cli import _options as options


@click.command("export")
@options.out_argument
@click.option(
    "--kernels",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the kernels; new, empty, or a kernel library to replace.",
)
@options.json_option
def command(out: Path, folder: Path, as_json: bool) -> None:
    """Write the tuned kernels in OUT as a library with a C header.

    Python loads it with familyseer.kernels.load(DIR).
    """
    from familyseer.cli._output import print_json, print_table, results_only
    from familyseer.units import format_latency

    with results_only():
        from familyseer.export.kernels import export_kernels

        manifest = export_kernels(out, folder)
    if as_json:
        print_json({"folder": folder, **manifest})
        return
    rows = [
        (
            kernel["name"],
            " ".join(
                f"{one['dtype']}[{','.join(map(str, one['shape']))}]"
                for one in kernel["arguments"]
                if one["role"] == "output"
            ),
            format_latency(kernel["tuned_us"]),
            "yes" if kernel["checked"] else "no",
        )
        for kernel in manifest["kernels"]
    ]
    print_table(("kernel", "output", "tuned", "checked"), rows, ("left", "left", "right", "left"))
    click.echo(f"{len(rows)} kernels for {manifest['kind']} {manifest['arch']} in {folder}")
