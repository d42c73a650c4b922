"""``familyseer run``: the library of a run, on inputs from a file."""

from __future__ import annotations

from pathlib import Path

import click

from familyseer.cli import _options as options


@click.command("run")
@options.out_argument
@click.option(
    "-i",
    "--inputs",
    required=True,
    metavar="IN.npz",
    type=click.Path(path_type=Path),
    help="Archive with one array an input, under the input's name.",
)
@click.option(
    "-o",
    "--outputs",
    required=True,
    metavar="OUT.npz",
    type=click.Path(path_type=Path),
    help="Archive to write, with one array an output.",
)
@options.json_option
def command(out: Path, inputs: Path, outputs: Path, as_json: bool) -> None:
    """Run the library in OUT on the arrays of IN.npz."""
    from familyseer.cli._npz import match_inputs, read_npz, write_npz
    from familyseer.cli._output import print_json, print_table, results_only

    with results_only():
        from familyseer.export.use import input_specs, read_summary, run_library

        wanted = input_specs(read_summary(out))
        arrays = match_inputs(inputs, read_npz(inputs), wanted)
        results = run_library(out, arrays)
    write_npz(outputs, results)
    if as_json:
        described = [
            {"name": name, "shape": array.shape, "dtype": str(array.dtype)}
            for name, array in results.items()
        ]
        print_json({"file": outputs, "outputs": described})
        return
    rows = [
        (name, "x".join(map(str, array.shape)), str(array.dtype)) for name, array in results.items()
    ]
    print_table(("output", "shape", "type"), rows)
    click.echo(f"written to {outputs}")
