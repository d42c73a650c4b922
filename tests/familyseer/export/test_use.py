"""What a summary says of a library's inputs, and inputs put in their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.export.use import input_specs, names_of, order_inputs, read_summary, seed_of
from familyseer.models import InputSpec, example_inputs

TABLE = {"name": "table", "shape": [3, 2], "dtype": "float32", "weight": [1.0, 0.5]}
IDS = {"name": "ids", "shape": [4], "dtype": "int64", "index_bound": 3, "weight": None}


def write(out: Path, *inputs: dict[str, Any]) -> Path:
    (out / "model.so").touch()
    summary = {"device": "cpu", "seed": 5, "inputs": list(inputs), "outputs": []}
    (out / "summary.json").write_text(json.dumps(summary))
    return out


def test_inputs_keep_what_is_known_of_them(tmp_path: Path) -> None:
    summary = read_summary(write(tmp_path, IDS, TABLE))
    assert input_specs(summary) == (
        InputSpec("ids", (4,), "int64", index_bound=3),
        InputSpec("table", (3, 2), "float32", weight=(1.0, 0.5)),
    )
    assert seed_of(summary) == 5


@pytest.mark.parametrize("weight", [[1.0], [1.0, "x"], {"mean": 1}, [True, 1.0]])
def test_moments_that_are_none_are_refused(weight: Any, tmp_path: Path) -> None:
    write(tmp_path, {**TABLE, "weight": weight})
    with pytest.raises(UserError, match="does not describe its inputs"):
        read_summary(tmp_path)


def test_a_weight_that_is_left_out_is_drawn_as_it_was(tmp_path: Path) -> None:
    summary = read_summary(write(tmp_path, IDS, TABLE))
    specs = input_specs(summary)
    drawn = example_inputs(specs, seed=seed_of(summary))
    ids = np.zeros(4, "int64")
    ordered = order_inputs(specs, {"ids": ids}, drawn.__getitem__)
    assert ordered[0] is ids
    np.testing.assert_array_equal(ordered[1], drawn["table"])
    # what is no weight has to be given, and so has a weight where nothing draws it
    with pytest.raises(UserError, match=r"input 'ids' is missing: expected int64\[4\]"):
        order_inputs(specs, {}, drawn.__getitem__)
    with pytest.raises(UserError, match=r"input 'table' is missing: expected float32\[3, 2\]"):
        order_inputs(specs, {"ids": ids})


def test_outputs_have_numbers_where_they_have_no_names() -> None:
    assert names_of({"outputs": [{"name": "y"}]}, 1) == ["y"]
    assert names_of({"outputs": [{"name": "y"}]}, 2) == ["output0", "output1"]
    assert names_of({}, 1) == ["output0"]
