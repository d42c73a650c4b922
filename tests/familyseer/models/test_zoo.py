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
from familyseer.models import example_inputs, load_model, zoo
from familyseer.models.zoo._registry import ALIASES

# their weights are gigabytes, and are drawn for no test
_HUGE = [name for name in zoo.names() if zoo.is_huge(name)]
_HELD = [name for name in zoo.names() if name not in _HUGE]


@functools.cache
def built(name: str) -> onnx.ModelProto:
    """The network with its default seed, drawn once; not to be changed."""
    return zoo.build(name)


def counted(name: str) -> tuple[int, int]:
    """Trainable parameters of a network, and all that it stores: BatchNorm's running statistics
    too. Nothing of their size is allocated."""
    model, weights = zoo.outline(name)
    statistics = {
        name
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
    sizes = {weight.name: math.prod(weight.shape) for weight in weights}
    stored = sum(sizes.values())
    return stored - sum(sizes[one] for one in statistics), stored


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("squeezenet", 1_235_496),
        ("resnet18", 11_689_512),
        ("resnet50_v1", 25_557_032),
        ("mobilenet_0.5", 1_331_592),
        ("mobilenetv2_0.5", 1_968_680),
        ("shufflenetv2_0.5", 1_366_792),
        ("efficientnet_b0", 5_288_548),
        ("vit_tiny", 5_717_416),
        ("bert_small", 11_170_560),
        # torchvision: vit_h_14, the linear head on frozen weights, 224 x 224
        ("vit_huge", 632_045_800),
        # checkpoints of the model cards, pooler included, heads of the pre-training left out
        ("bert_large", 335_141_888),
        ("roberta_large", 355_359_744),
        # the model card's 124 M; the head is the table of token embeddings
        ("gpt2", 124_439_808),
    ],
)
def test_parameter_count_is_the_published_one(name: str, published: int) -> None:
    assert counted(name)[0] == published


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("mobilenet_0.5", 1_342_536),
        ("resnet152_v2", 60_329_140),
    ],
)
def test_stored_count_is_that_of_gluons_model_zoo(name: str, published: int) -> None:
    assert counted(name)[1] == published


@pytest.mark.parametrize("name", zoo.names())
def test_card_agrees_with_the_network_that_is_built(name: str) -> None:
    card, (model, weights) = zoo.describe(name), zoo.outline(name)
    onnx.checker.check_model(model, full_check=True)
    assert card.parameters == counted(name)[0]
    inputs = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }
    assert inputs == {spec.name: spec.shape for spec in (*card.inputs, *weights)}


def test_networks_of_the_familyseer_paper_are_there() -> None:
    paper = ["resnet50_v1", "resnet152_v2", "mobilenet_0.5", "mobilenetv2_0.5"]
    paper += ["vit_huge", "bert_large", "roberta_large", "gpt2"]
    assert set(paper) <= set(zoo.names())
    assert set(_HUGE) == set(paper[4:])


def test_network_is_known_by_its_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.describe("resnet50") == zoo.describe("resnet50_v1")
    monkeypatch.setitem(ALIASES, "perceptron", "mlp")
    model = load_model("perceptron")
    assert (model.name, model.source) == ("mlp", "perceptron")
    assert model.digest == load_model("mlp").digest


@pytest.mark.parametrize("name", _HELD)
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
        return bytes(zoo.build("mlp", seed).SerializeToString(deterministic=True))

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
