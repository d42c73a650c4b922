"""Everything that can be wrong with MODEL ends in one line that names it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from familyseer.errors import UserError
from familyseer.models import load_model, zoo


def refused(spec: Path | str, **options: dict[str, tuple[int, ...]]) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(spec), **options)
    message = str(caught.value)
    assert message.startswith(str(spec))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_missing_empty_and_folder(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    assert "no such file" in refused(path)
    path.touch()
    assert "is empty" in refused(path)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    assert "is a folder" in refused(folder)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"import torch\nprint('no model')\n", "is a text file"),
        ("# Modèle\n".encode(), "is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (bytes(range(256)), "not an ONNX model"),
        (b"\x08\x08", "not an ONNX model"),
    ],
)
def test_file_that_is_something_else(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert what in refused(path)


@pytest.mark.parametrize("kept", [3, 40, 0.5, 0.999])
def test_truncated_onnx(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "m.onnx"
    data = zoo.build("mlp").SerializeToString()
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    assert "is truncated" in refused(path)


def test_missing_short_and_stray_external_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(zoo.build("mlp"), path, save_as_external_data=True, location="weights.bin")
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "external weights cannot be read" in refused(path)
    weights.unlink()
    assert "weights file weights.bin is missing" in refused(path)
    model = onnx.load(path, load_external_data=False)
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4_000_000))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../secret" if entry.key == "location" else entry.value
    inner = tmp_path / "inner" / "m.onnx"
    inner.write_bytes(model.SerializeToString())
    assert "external weights cannot be read" in refused(inner)


def test_unknown_extension_and_unknown_names(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"x")
    assert ".onnx or .pt2" in refused(path)
    assert "is a folder" in refused(tmp_path)
    assert "did you mean squeezenet" in refused("squeezenett")
    assert "mobilenetv2_0.5" in refused("mobilenetv2")
    assert "which has mlp, squeezenet" in refused("zzz")


def test_every_unsupported_operator_is_named_with_its_node(
    save_onnx: Callable[..., Path],
) -> None:
    path = save_onnx(
        [
            helper.make_node("Fancy", ["x"], ["a"], name="first", domain="my.ops"),
            helper.make_node("Det", ["a"], ["b"]),
            helper.make_node("Relu", ["b"], ["y"]),
        ],
        domain="my.ops",
    )
    message = refused(path)
    assert "my.ops::Fancy (node first)" in message
    assert "Det (node" in message
    assert "Relu" not in message


def test_operator_inside_a_branch_is_found(save_onnx: Callable[..., Path]) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], ["r"])], operator, [], [result])

    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("Det"), else_branch=branch("Relu")
    )
    condition = helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL)
    total = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    assert "Det" in refused(save_onnx([total, condition, node], (4, 4)))


def test_importer_failure_names_operator_and_node(
    save_onnx: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    sizes = helper.make_node("Relu", ["x"], ["a"])
    wrong = helper.make_node("MatMul", ["a", "a"], ["y"], name="square")
    message = refused(save_onnx([sizes, wrong], (2, 3)))
    assert "failed on MatMul (node square)" in message
    assert "Error converting" not in capfd.readouterr().out


def test_input_that_is_not_numbers(save_onnx: Callable[..., Path]) -> None:
    path = save_onnx([helper.make_node("Identity", ["x"], ["y"])], element=TensorProto.STRING)
    assert "input x is not a tensor of numbers" in refused(path)


def test_dynamic_input_names_the_flag_and_wrong_shapes_are_refused(
    save_onnx: Callable[..., Path],
) -> None:
    path = save_onnx([helper.make_node("Relu", ["x"], ["y"])], ["batch", 3, None])
    assert "(batch, 3, ?); give its shape with --input-shape x=BATCH,3,?" in refused(path)
    assert "its inputs are: x" in refused(path, input_shapes={"data": (1,)})
    assert "expected 3" in refused(path, input_shapes={"x": (1, 3)})
    assert "contradicts" in refused(path, input_shapes={"x": (1, 4, 5)})


def test_pt2_that_is_no_archive_or_has_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"garbage")
    assert "zip archive" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "familyseer[torch]" in refused(path)
