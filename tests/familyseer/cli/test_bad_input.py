"""Every bad input that a user can give `tune`: one clear line, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from familyseer.cli.main import main
from familyseer.models import zoo


def tune(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["tune", *args])
    return result.exit_code, result.stdout, result.stderr


def model_with(op: str, shape: list[int | str], path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], name="the_node")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def missing(folder: Path) -> Path:
    return folder / "nothing-here.onnx"


def text(folder: Path) -> Path:
    path = folder / "notes.onnx"
    path.write_text("this is not a model\n" * 20)
    return path


def truncated(folder: Path) -> Path:
    path = folder / "cut.onnx"
    zoo.save("mlp", path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def unsupported(folder: Path) -> Path:
    return model_with("Det", [2, 3, 3], folder / "det.onnx")


def dynamic(folder: Path) -> Path:
    return model_with("Relu", ["batch", 8], folder / "dynamic.onnx")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (missing, ["nothing-here.onnx"]),
        (text, ["notes.onnx", "ONNX"]),
        (truncated, ["cut.onnx", "ONNX"]),
        (unsupported, ["Det"]),
        (dynamic, ["x", "batch", "--input-shape"]),
    ],
)
def test_a_bad_model_file_is_one_line(
    make: Callable[[Path], Path], named: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = tune(str(make(tmp_path)), "-o", str(out), "--budget", "5s", "--quiet")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
    for word in named:
        assert word in stderr
    assert not (out / "model.so").exists()


def test_an_unknown_model_names_close_ones(tmp_path: Path) -> None:
    code, _, stderr = tune("squeezent", "-o", str(tmp_path / "out"), "--quiet")
    assert code == 2
    assert "squeezenet" in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--budget", "-5m"), ("--budget", "soon"), ("--budget", "0"), ("--target", "quantum")],
)
def test_a_bad_option_names_what_was_given(option: str, value: str, tmp_path: Path) -> None:
    code, stdout, stderr = tune("mlp", "-o", str(tmp_path / "out"), option, value, "--quiet")
    assert (code, stdout) == (2, "")
    assert value in stderr
    assert "expected" in stderr
    assert len(stderr.splitlines()) == 1


def test_an_out_with_another_models_run_is_named(tmp_path: Path) -> None:
    from familyseer.run._folder import Identity, RunFolder

    RunFolder(tmp_path, Identity("resnet18", "0" * 64, "llvm"), resume=False)
    code, _, stderr = tune("mlp", "-o", str(tmp_path), "--budget", "5s", "--quiet")
    assert code == 2
    assert "resnet18" in stderr
    assert str(tmp_path) in stderr


def test_a_bound_shape_makes_a_dynamic_model_usable(tmp_path: Path) -> None:
    path = dynamic(tmp_path)
    result = CliRunner().invoke(main, ["families", str(path), "--input-shape", "x=4,8"])
    assert result.exit_code == 0, result.stderr
