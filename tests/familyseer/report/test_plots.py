"""Scales, and plots as files."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from familyseer.errors import UserError
from familyseer.report import save_plots
from familyseer.report._axes import Axis, latency_axis, log_axis, time_axis
from familyseer.report._plot import thinned
from tests.familyseer.report import made_run

_POSITIVE = st.floats(min_value=1e-6, max_value=1e15)


def check(axis: Axis) -> None:
    values = [value for value, _ in axis.ticks]
    assert values == sorted(set(values))
    assert 1 <= len(values) <= 13
    assert all(-1e-9 <= axis.place(value) <= 1 + 1e-9 for value in values)


@given(st.floats(min_value=0, max_value=1e9))
def test_time_has_round_ticks_at_any_length(last_s: float) -> None:
    check(time_axis(last_s))


@given(st.lists(_POSITIVE, min_size=1, max_size=5))
def test_latencies_lie_inside_their_scale(values: list[float]) -> None:
    axis = latency_axis(values)
    check(axis)
    assert all(0 <= axis.place(value) <= 1 for value in values)


@given(st.lists(_POSITIVE, min_size=1, max_size=5))
def test_a_logarithmic_scale_has_ticks_however_narrow(values: list[float]) -> None:
    axis = log_axis("x", values, str)
    check(axis)
    assert all(0 < axis.place(value) < 1 for value in values)


@given(st.lists(st.integers(1, 5), max_size=3000))
def test_thinned_points_keep_the_first_and_the_last(values: list[int]) -> None:
    points = [(float(i), float(value)) for i, value in enumerate(values)]
    kept = thinned(points)
    assert len(kept) <= 801
    assert [*kept[:1], *kept[-1:]] == [*points[:1], *points[-1:]]
    assert math.isclose(len(set(kept)), len(kept))


def test_svg_files_keep_text_as_text_and_are_the_same_every_time(tmp_path: Path) -> None:
    out = made_run.make_run(tmp_path / "out")
    files = save_plots(out, tmp_path / "a", "svg")
    assert [file.name for file in files] == [
        "latency.svg", "time.svg", "accuracy.svg", "roofline.svg",
    ]  # fmt: skip
    root = ElementTree.parse(files[0]).getroot()
    assert "Latency of the model over time" in "".join(root.itertext())
    again = save_plots(out, tmp_path / "b", "svg")
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    out = made_run.make_run(tmp_path / "out")
    (out / "tuning" / "accuracy.csv").write_text(
        "elapsed_s,trials,family,accuracy\n1.0,1,$\\frac{1}{$,0.5\n2.0,1,_hidden,0.5\n"
    )
    (_, _, file, _) = save_plots(out, tmp_path, "svg")
    assert "$\\frac{1}{$" in "".join(ElementTree.parse(file).getroot().itertext())


def test_plots_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    out = made_run.make_run(tmp_path / "out")
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="taken: cannot be written"):
        save_plots(out, tmp_path / "taken", "png")
    with pytest.raises(UserError, match="expected png or svg"):
        save_plots(out, tmp_path / "a", "gif")
