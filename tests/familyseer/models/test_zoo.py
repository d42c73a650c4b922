"""Networks built in code: their size, their reproducibility, their cards."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from familyseer.errors import UserError
from familyseer.models import example_inputs, zoo


@functools.cache
def built(name: str) -> onnx.ModelProto:
    """The network with its default seed, drawn once; not to be changed."""
    return zoo.build(name)


def trainable_parameters(model: onnx.ModelProto) -> int:
    """float weights of rank 1 and above, BatchNorm's running statistics left out."""
    statistics = {
        name
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 0
        and tensor.name not in statistics
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("squeezenet", 1_235_496),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet_0.5", 1_331_592),
        ("mobilenetv2_0.5", 1_968_680),
        ("shufflenetv2_0.5", 1_366_792),
        ("efficientnet_b0", 5_288_548),
        ("vit_tiny", 5_717_416),
        ("bert_small", 11_170_560),
    ],
)
def test_parameter_count_is_the_published_one(name: str, published: int) -> None:
    assert trainable_parameters(built(name)) == published


@pytest.mark.parametrize("name", zoo.names())
def test_card_agrees_with_the_network_that_is_built(name: str) -> None:
    card, model = zoo.describe(name), built(name)
    onnx.checker.check_model(model, full_check=True)
    assert card.parameters == trainable_parameters(model)
    inputs = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }
    assert inputs == {spec.name: spec.shape for spec in card.inputs}


@pytest.mark.parametrize("name", zoo.names())
def test_outputs_are_finite_and_varied(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        built(name).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for output in session.run(None, example_inputs(zoo.describe(name).inputs)):
        assert np.isfinite(output).all()
        assert 0.1 < output.std() < 10


def test_decoder_does_not_look_ahead() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        built("gpt2_small").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    ids = example_inputs(zoo.describe("gpt2_small").inputs)["input_ids"]
    changed = ids.copy()
    changed[0, 40] = (ids[0, 40] + 1) % 4096
    (before,), (after,) = (session.run(None, {"input_ids": tokens}) for tokens in (ids, changed))
    np.testing.assert_allclose(after[0, :40], before[0, :40], atol=1e-5)
    assert (np.abs(after[0, 40:] - before[0, 40:]).max(axis=1) > 1e-4).all()


def test_same_seed_gives_the_same_bytes_and_another_seed_other_weights() -> None:
    def data(seed: int) -> bytes:
        return zoo.build("mlp", seed).SerializeToString(deterministic=True)

    assert data(3) == data(3)
    assert data(3) != data(4)


def test_saved_network_is_the_built_one(tmp_path: Path) -> None:
    zoo.save("mlp", tmp_path / "mlp.onnx", seed=5)
    assert onnx.load(tmp_path / "mlp.onnx") == zoo.build("mlp", 5)


def test_saving_where_nothing_can_be_written_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        zoo.save("mlp", tmp_path / "missing" / "mlp.onnx")
    with pytest.raises(UserError, match=r"ends in \.onnx"):
        zoo.save("mlp", tmp_path / "mlp.bin")


def test_unknown_name_and_negative_seed_are_user_errors() -> None:
    with pytest.raises(UserError, match=r"resnet81: no such model.*resnet18"):
        zoo.describe("resnet81")
    with pytest.raises(UserError, match="seed -1"):
        zoo.build("mlp", -1)


def test_cards_are_read_without_importing_anything_heavy() -> None:
    program = (
        "import sys; from familyseer.models import zoo\n"
        "[zoo.describe(name) for name in zoo.names()]\n"
        "sys.exit(bool({'tvm', 'onnx', 'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
