"""The plots as files, drawn by matplotlib: for slides and papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.report._axes import Axis
from familyseer.report._figures import figures
from familyseer.report._plot import Bars, Chart, Figure
from familyseer.report._read import read_run

FORMATS = ("png", "svg")
# that can be told apart in print, on white
_COLOURS = ("#0b5cad", "#b3461e", "#1a7348", "#7d35a3", "#7a6100", "#006d7f", "#ac2f68", "#525a64")
# text stays text, and the same run gives the same file
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "familyseer", "text.parse_math": False}


def save_plots(out: Path, folder: Path, kind: str) -> list[Path]:
    """Draws each plot of a run's report to a file of its own.

    Parameters
    ----------
    out
        The run's folder.
    folder
        Where to write; made if missing. The files are ``latency``, ``time``, ``accuracy`` and
        ``roofline``, those that the run has data for.
    kind
        ``png`` or ``svg``.

    Returns
    -------
    list
        The files.

    Raises
    ------
    UserError
        `kind` is another, `out` is no folder of a tuning run, or `folder` cannot be written.
    """
    if kind not in FORMATS:
        raise UserError(f"{kind}: cannot plot to it, expected {' or '.join(FORMATS)}")
    made = figures(read_run(out))
    import matplotlib as mpl

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(_SETTINGS):
            for figure in made:
                path = folder / f"{figure.key}.{kind}"
                metadata = {"Title": figure.title, **({"Date": None} if kind == "svg" else {})}
                draw(figure).savefig(path, format=kind, dpi=160, metadata=metadata)
                written.append(path)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}), expected a folder for plots"
        ) from None
    return written


def draw(figure: Figure) -> Any:
    """A plot as a `matplotlib.figure.Figure` of its own, which no window or notebook holds."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7.0, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_title(figure.title, loc="left", fontsize=11)
    if isinstance(figure.plot, Chart):
        _draw_chart(axes, figure.plot)
        canvas.legend(loc="outside lower left", ncols=2, fontsize=8, frameon=False)
    else:
        _draw_bars(axes, figure.plot)
    axes.spines[["top", "right"]].set_visible(False)
    return canvas


def _draw_chart(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        xs, ys = zip(*series.points, strict=True)
        colour, label = _COLOURS[series.colour % len(_COLOURS)], series.name or None
        if series.kind == "dots":
            axes.scatter(xs, ys, color=colour, label=label, s=22, zorder=3)
        elif series.kind == "steps":
            axes.step(xs, ys, where="post", color=colour, label=label)
        else:
            dashes = "--" if series.kind == "level" else "-"
            axes.plot(xs, ys, dashes, color=colour, label=label)
    _scale(axes, "x", chart.x)
    _scale(axes, "y", chart.y)
    axes.grid(alpha=0.3)


def _scale(axes: Any, which: str, axis: Axis) -> None:
    from matplotlib.ticker import NullLocator

    scale: dict[str, Any] = {f"{which}scale": "log" if axis.log else "linear"}
    axes.set(**scale)
    axes.set(**{f"{which}lim": (axis.low, axis.high), f"{which}label": axis.label})
    values, texts = zip(*axis.ticks, strict=True) if axis.ticks else ((), ())
    drawn = axes.xaxis if which == "x" else axes.yaxis
    drawn.set_ticks(values, texts)
    drawn.set_minor_locator(NullLocator())


def _draw_bars(axes: Any, bars: Bars) -> None:
    names = [name for name, *_ in bars.parts]
    drawn = axes.barh(names, [value for _, value, _ in bars.parts], color=_COLOURS[0])
    axes.bar_label(drawn, [text for *_, text in bars.parts], padding=4, fontsize=9)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
