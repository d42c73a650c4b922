"""What a result knows of its run."""

from __future__ import annotations

import csv
import gc
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import familyseer
from familyseer.errors import UserError
from familyseer.run import HISTORY_COLUMNS
from familyseer.tvm_env import load_tvm


def test_latencies_are_those_of_the_summary(result: familyseer.Result) -> None:
    summary = json.loads((result.folder / "summary.json").read_text())
    assert result.summary == summary
    assert result.latency == pytest.approx(summary["tuned_us"] * 1e-6)
    assert result.untuned_latency == pytest.approx(summary["untuned_us"] * 1e-6)
    assert result.speedup == pytest.approx(result.untuned_latency / result.latency)
    assert "as fast as untuned, 5 trials>" in repr(result)


def test_history_has_a_row_a_round(result: familyseer.Result) -> None:
    pandas = pytest.importorskip("pandas")
    frame = result.history
    assert isinstance(frame, pandas.DataFrame)
    assert tuple(frame.columns) == HISTORY_COLUMNS
    with (result.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(frame["subgraph"]) == [row["subgraph"] for row in rows]
    assert list(frame["trials"]) == [int(row["trials"]) for row in rows]
    assert frame["estimated_model_us"].dtype == float


def test_history_without_pandas_is_a_list_of_rows(
    result: familyseer.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pandas" else find(name)
    )
    rows = result.history
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert rows[-1]["trials"] == 5


def test_families_hold_every_subgraph(result: familyseer.Result) -> None:
    members = [one["name"] for family in result.families for one in family["subgraphs"]]
    assert len(members) == result.summary["subgraphs"]
    assert set(result.history["subgraph"]) <= set(members)
    assert all(family["reason"] for family in result.families)


@pytest.mark.parametrize("plot", ["latency", "time", "accuracy", "roofline", "families"])
def test_plots_are_figures_of_matplotlib(plot: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from tests.familyseer.report.made_run import make_run

    out = make_run(tmp_path)
    (out / "model.so").touch()
    figure = getattr(familyseer.load(out), f"plot_{plot}")()
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title(loc="left")
    figure.savefig(tmp_path / "plot.png")


def test_a_plot_without_data_says_so(result: familyseer.Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "kept")
    (folder / "tuning" / "accuracy.csv").unlink(missing_ok=True)
    with pytest.raises(UserError, match="the run has no data for a plot of its accuracy"):
        familyseer.load(folder).plot_accuracy()


def test_arrays_go_in_by_position_and_by_name(
    result: familyseer.Result, arguments: dict[str, Any]
) -> None:
    scale, x = (arguments[name].numpy() for name in ("scale", "x"))
    first = result.run(scale, x)
    for again in (result.run(scale, x=x), result.run({"x": x, "scale": scale})):
        assert list(again) == list(first) == ["output0", "output1"]
        np.testing.assert_array_equal(again["output0"], first["output0"])
    # views of any strides are taken
    turned = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(result.run(scale, turned)["output0"], first["output0"])


@pytest.mark.parametrize(
    ("arrays", "named", "message"),
    [
        ((), {}, "input 'scale' is missing: expected float32"),
        ((1, 2, 3), {}, "3 inputs are given: expected scale, x"),
        ((np.ones(1, "float32"),), {"scale": 1}, "input 'scale' is given twice"),
        ((2.0,), {}, "input 'scale' is a float: expected float32"),
        ((np.ones(1),), {}, r"input 'scale' is float64\[1\]: expected float32\[1\]"),
        ((), {"y": 1}, "unknown input 'y': expected scale, x"),
    ],
)
def test_wrong_arrays_are_refused(
    arrays: tuple[Any, ...], named: dict[str, Any], message: str, result: familyseer.Result
) -> None:
    with pytest.raises(UserError, match=message):
        result.run(*arrays, **named)


def test_the_exported_file_needs_tvm_alone(
    result: familyseer.Result, arguments: dict[str, Any], tmp_path: Path
) -> None:
    path = result.export(tmp_path / "tuned.so")
    tvm = load_tvm()
    vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    arrays = [arguments[name].numpy() for name in ("scale", "x")]
    got = vm["main"](*[tvm.runtime.tensor(array) for array in arrays])[0].numpy()
    np.testing.assert_array_equal(got, result.run(*arrays)["output0"])


def test_exporting_elsewhere_is_refused(result: familyseer.Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tuned: expected a file name that ends in \.so"):
        result.export(tmp_path / "tuned")
    with pytest.raises(UserError, match=r"missing/a\.so: cannot be written"):
        result.export(tmp_path / "missing" / "a.so")


def test_a_folder_in_use_is_not_saved_over(result: familyseer.Result, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="expected a new or an empty folder"):
        result.save(tmp_path)
    with pytest.raises(UserError, match="expected a new or an empty folder"):
        result.save(tmp_path / "mine")


def test_a_temporary_folder_goes_with_its_result(result: familyseer.Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "run")
    held = familyseer.Result(folder, temporary=True)
    assert held.latency
    del held
    gc.collect()
    assert not folder.exists()


def test_a_library_that_was_changed_is_refused(result: familyseer.Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "run")
    with (folder / "model.so").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"model\.so: has \d+ bytes, its run wrote"):
        _ = familyseer.load(folder).module
    with pytest.raises(UserError, match=r"model\.so: has \d+ bytes, its run wrote"):
        familyseer.load(folder).export(tmp_path / "a.so")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished tuning run here"):
        familyseer.load(tmp_path)


def test_a_result_outlives_what_becomes_of_its_folder(
    result: familyseer.Result, arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder = result.save(tmp_path / "run")
    loaded = familyseer.load(folder)
    assert loaded.module is not None
    shutil.rmtree(folder)
    arrays = [arguments[name].numpy() for name in ("scale", "x")]
    np.testing.assert_array_equal(loaded.run(*arrays)["output0"], result.run(*arrays)["output0"])


def test_weights_that_are_inputs_may_be_left_out(
    result: familyseer.Result, arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder = result.save(tmp_path / "run")
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["inputs"][0]["weight"] = [3.0, 0.0]
    path.write_text(json.dumps(summary))
    x = arguments["x"].numpy()
    want = result.run(np.full(1, 3.0, "float32"), x)["output0"]
    np.testing.assert_array_equal(familyseer.load(folder).run(x=x)["output0"], want)
