"""Loading a model: what the module computes, what is in it, what identifies it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from familyseer.models import LoadedModel, example_inputs, load_model, zoo
from familyseer.models._relax import calls


def operator_names(model: LoadedModel) -> list[str]:
    return [call.op.name for _, call in calls(model.mod)]


def run_untuned(model: LoadedModel, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    from familyseer.tvm_env import load_tvm

    tvm = load_tvm(intrinsics=True)
    machine = tvm.relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    result: Any = machine["main"](*[tvm.runtime.tensor(array) for array in feed.values()])
    return [result.numpy()] if hasattr(result, "numpy") else [item.numpy() for item in result]


def assert_equals_onnxruntime(model: LoadedModel) -> None:
    ort = pytest.importorskip("onnxruntime")
    assert model.onnx is not None
    session = ort.InferenceSession(
        model.onnx.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = example_inputs(model.inputs)
    wanted = session.run(None, feed)
    for got, want in zip(run_untuned(model, feed), wanted, strict=True):
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("name", ["mlp", "squeezenet", "mobilenetv2_0.5"])
def test_loaded_network_computes_what_onnxruntime_computes(name: str) -> None:
    assert_equals_onnxruntime(load_model(name))


def test_batch_norm_is_folded_into_the_convolutions() -> None:
    names = operator_names(load_model("resnet18"))
    assert names.count("relax.nn.conv2d") == 20
    assert names.count("relax.add") == 20 + 8 + 1  # biases, shortcuts, classifier
    assert not {name for name in names if "batch_norm" in name or "rsqrt" in name}


def test_relu6_is_one_operator() -> None:
    model = load_model("mobilenetv2_0.5")
    assert operator_names(model).count("relax.clip") == 35
    assert [var.name_hint for var in model.mod.get_global_vars()] == ["main"]


def test_token_inputs_know_the_axis_they_index() -> None:
    model = load_model("bert_small")
    assert model.inputs == zoo.describe("bert_small").inputs
    assert len(model.mod["main"].params) == 3


def test_out_of_range_index_does_not_crash(save_onnx: Callable[..., Path]) -> None:
    path = save_onnx(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        (2,),
        element=TensorProto.INT64,
        weights={"table": np.arange(6, dtype=np.float32).reshape(3, 2)},
    )
    model = load_model(str(path))
    assert model.inputs[0].index_bound == 3
    (rows,) = run_untuned(model, {"x": np.array([10**9, -1])})
    assert rows.tolist() == [[4, 5], [4, 5]]


def test_symbolic_batch_is_bound(save_onnx: Callable[..., Path]) -> None:
    path = save_onnx([helper.make_node("Relu", ["x"], ["y"])], ["n", 3])
    model = load_model(str(path), input_shapes={"x": (5, 3)})
    assert model.inputs[0].shape == (5, 3)
    assert_equals_onnxruntime(model)


def test_digest_tells_weights_and_shapes_apart_but_not_where_the_file_lies(
    tmp_path: Path, save_onnx: Callable[..., Path]
) -> None:
    zoo.save("mlp", tmp_path / "a.onnx")
    zoo.save("mlp", tmp_path / "b.onnx")
    a, b = (load_model(str(tmp_path / name)) for name in ("a.onnx", "b.onnx"))
    assert a.digest == b.digest == load_model("mlp").digest
    assert a.digest != load_model("mlp", seed=1).digest
    assert (a.name, a.source) == ("a", str(tmp_path / "a.onnx"))

    path = str(save_onnx([helper.make_node("Relu", ["x"], ["y"])], ["n"]))
    one, two = (load_model(path, input_shapes={"x": (n,)}).digest for n in (1, 2))
    assert one != two
    assert len(one) == 64


def test_external_weights_are_part_of_the_model(tmp_path: Path) -> None:
    path, weights = tmp_path / "m.onnx", tmp_path / "w.bin"
    onnx.save(zoo.build("mlp"), path, save_as_external_data=True, location="w.bin")
    before = load_model(str(path))
    assert_equals_onnxruntime(before)
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert load_model(str(path)).digest != before.digest


def test_failing_clean_up_is_logged_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("no slimming today")

    monkeypatch.setattr("onnxslim.slim", fail)
    with caplog.at_level(logging.WARNING):
        model = load_model("mlp")
    assert "no slimming today" in caplog.text
    assert operator_names(model).count("relax.matmul") == 3
    assert_equals_onnxruntime(model)


def test_local_functions_are_inlined(save_onnx: Callable[..., Path]) -> None:
    path = save_onnx([helper.make_node("Twice", ["x"], ["y"], domain="f")], domain="f")
    model = onnx.load(path)
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("f", "Twice", ["a"], ["b"], body, opsets))
    path.write_bytes(model.SerializeToString())
    assert_equals_onnxruntime(load_model(str(path)))
