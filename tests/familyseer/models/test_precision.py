"""Float32 models in float16, and what that costs in accuracy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from familyseer.errors import UserError
from familyseer.models import load_model


def products(path: Path, scale: float, dtype: Any = np.float32) -> str:
    """A matrix product whose weights are `scale` times random numbers."""
    weights = (np.random.default_rng(1).standard_normal((64, 32)) * scale).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "products",
        [helper.make_tensor_value_info("x", kind, [4, 64])],
        [helper.make_tensor_value_info("y", kind, [4, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)


@pytest.mark.parametrize("shorter", ["float16", "bfloat16"])
def test_products_are_computed_in_the_shorter_type_and_outputs_stay(shorter: str) -> None:
    exact, mixed = load_model("mlp"), load_model("mlp", precision=shorter)
    assert mixed.exact is not None
    assert (mixed.precision, exact.precision, exact.exact) == (shorter, "float32", None)
    assert mixed.digest != exact.digest
    assert mixed.inputs == exact.inputs
    script = mixed.mod["main"].script()
    assert 'R.matmul(lv, metadata["ir.GenericConst"][0], out_dtype="float32")' in script
    assert set(re.findall(r'dtype="(\w+)"', script)) == {shorter, "float32"}
    assert str(mixed.mod["main"].ret_ty.dtype) == "float32"


def test_nothing_to_shorten_is_said(tmp_path: Path) -> None:
    model = products(tmp_path / "double.onnx", 1.0, np.float64)
    with pytest.raises(UserError, match="no float32 convolution or matrix product"):
        load_model(model, precision="float16")
    with pytest.raises(UserError, match="expected one of float32, float16, bfloat16"):
        load_model(model, precision="int4")


@pytest.mark.parametrize(("shorter", "most"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_a_run_says_what_the_shorter_type_costs(tmp_path: Path, shorter: str, most: float) -> None:
    from familyseer.options import TuneOptions
    from familyseer.run import tune

    model = products(tmp_path / "fine.onnx", 1.0)
    summary = tune(TuneOptions(model=model, out=tmp_path / "out", trials=2, precision=shorter))
    assert summary["precision"]["dtype"] == shorter
    assert most / 100 < summary["precision"]["max_rel_error"] < most
    assert summary["outputs"][0]["dtype"] == "float32"
    with pytest.raises(UserError, match="another model"):
        tune(TuneOptions(model=model, out=tmp_path / "out", trials=2, resume=True))


@pytest.mark.parametrize(("scale", "limit", "said"), [(1e6, 0.05, "overflows"), (1.0, 1e-9, "off")])
def test_a_model_that_does_not_bear_it_is_refused(
    tmp_path: Path, scale: float, limit: float, said: str
) -> None:
    from familyseer.options import TuneOptions
    from familyseer.run import tune

    options = TuneOptions(
        model=products(tmp_path / "bad.onnx", scale),
        out=tmp_path / "out",
        trials=2,
        precision="float16",
        max_rel_error=limit,
    )
    with pytest.raises(UserError, match=f"in float16 the model .*{said}") as caught:
        tune(options)
    assert "--precision float32" in str(caught.value)
