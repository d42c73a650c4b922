"""Inputs made up for running a model."""

from __future__ import annotations

import numpy as np

from familyseer.models import InputSpec, example_inputs


def test_shapes_and_dtypes_are_those_of_the_inputs() -> None:
    specs = [
        InputSpec(dtype, (3, 5), dtype)
        for dtype in ("float16", "float32", "float64", "bfloat16", "int8", "int64", "uint8", "bool")
    ]
    arrays = example_inputs(specs)
    assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == {
        spec.name: (spec.dtype, spec.shape) for spec in specs
    }


def test_indices_cover_the_axis_that_they_index_and_stay_inside() -> None:
    ids = example_inputs([InputSpec("ids", (1000,), "int64", index_bound=50)])["ids"]
    assert (ids.min(), ids.max()) == (0, 49)


def test_index_bound_beyond_the_dtype_does_not_overflow() -> None:
    ids = example_inputs([InputSpec("ids", (1000,), "int8", index_bound=30000)])["ids"]
    assert ids.min() >= 0


def test_other_integers_are_zero_or_one_and_masks_keep_everything() -> None:
    arrays = example_inputs(
        [InputSpec("n", (100,), "int64"), InputSpec("attention_mask", (100,), "int64")]
    )
    assert set(np.unique(arrays["n"])) == {0, 1}
    assert set(np.unique(arrays["attention_mask"])) == {1}


def test_seed_decides_the_values() -> None:
    specs = [InputSpec("x", (4,), "float32")]
    assert np.array_equal(example_inputs(specs, 1)["x"], example_inputs(specs, 1)["x"])
    assert not np.array_equal(example_inputs(specs, 1)["x"], example_inputs(specs, 2)["x"])
