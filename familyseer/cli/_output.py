"""What commands print on standard output: tables for people, one JSON object for programs."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import click

Align = Literal["left", "right"]


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Sends to standard error what anything, native code and child processes included, prints.

    Standard output belongs to the command's result, which is printed after this.
    """
    sys.stdout.flush()
    try:
        saved = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        # one of the two is closed, so nothing of a library's can reach the result
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        # what C code printed may still wait in its own buffer
        ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def native_messages_to(log: Path) -> Iterator[TextIO]:
    """Keeps what native code prints on standard error out of sight, and in a file.

    TVM's C++ side warns there, for instance once for every pooling subgraph, which would tear a
    live display apart. Python's own standard error, which is given to the caller, is untouched.
    The file is written at the end if its folder is there by then.
    """
    sys.stderr.flush()
    try:
        if sys.stderr.fileno() != 2:
            raise OSError
        visible = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError:
        # standard error is closed, or is not where native code prints
        yield sys.stderr
        return
    saved = os.dup(2)
    with visible, tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            with contextlib.redirect_stderr(visible):
                yield visible
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(saved, 2)
            os.close(saved)
            messages.seek(0)
            text = messages.read()
            if text and log.parent.is_dir():
                with contextlib.suppress(OSError):
                    log.write_bytes(text)


def print_json(data: Mapping[str, Any]) -> None:
    """Prints one JSON object; numbers that JSON cannot hold (NaN, infinity) become null."""
    click.echo(json.dumps(_jsonable(data), indent=2, allow_nan=False, ensure_ascii=False))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Prints a name and a value a line, the values aligned."""
    width = max((len(name) for name, _ in pairs), default=0)
    bold = sys.stdout.isatty()
    for name, value in pairs:
        label = name.ljust(width)
        click.echo(f"{click.style(label, dim=True) if bold else label}  {value}".rstrip())


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[Align] = ()
) -> None:
    """Prints a table: drawn to fit where a person looks on, plain aligned text in a pipe.

    Parameters
    ----------
    headings
        One a column.
    rows
        Cells, as many a row as there are headings.
    align
        One a column; left where it is not given.
    """
    sides = [*align, *["left"] * (len(headings) - len(align))]
    if sys.stdout.isatty():
        _print_rich(headings, rows, sides)
    else:
        _print_plain(headings, rows, sides)


def _print_plain(
    headings: Sequence[str], rows: Sequence[Sequence[str]], sides: Sequence[str]
) -> None:
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = [
            cell.rjust(width) if side == "right" else cell.ljust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(
    headings: Sequence[str], rows: Sequence[Sequence[str]], sides: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading, side in zip(headings, sides, strict=True):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for row in rows:
        # Text, because a name with brackets is no markup
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)
