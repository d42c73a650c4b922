"""Which products of imported models SpAMM can take over, and that the model stays the same."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from familyseer.models import load_model
from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.tvm_env import load_tvm

tvm = load_tvm()

from ops.spamm_operator import Operator, pack_weight  # noqa: E402
from ops.spamm_rewrite import (  # noqa: E402
    Layer,
    find_layers,
    layer_module,
    probe_layers,
    replace_layers,
)

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("_spamm_models")


def imported(model: Any, folder: Path) -> Any:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return load_model(str(path)).mod


def graph(
    nodes: list[Any], weights: dict[str, Any], x: tuple[int, ...], out: tuple[int, ...]
) -> Any:
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def operators(layers: list[Layer], cpu: Any, tau: float = 0.0) -> dict[int, Operator]:
    return {
        layer.index: Operator(
            f"spamm{layer.index}",
            layer.problem,
            pack_weight(layer.problem, layer.weight, cpu, (32, 32)),
            tau,
        )
        for layer in layers
    }


def run(mod: Any, cpu: Any, *inputs: Any) -> list[Any]:
    machine = tvm.relax.VirtualMachine(tvm.compile(fuse(mod, cpu), cpu), tvm.cpu())
    got = machine["main"](*[tvm.runtime.tensor(one) for one in inputs])
    return flat(got)


def flat(value: Any) -> list[Any]:
    if hasattr(value, "numpy"):
        return [value.numpy()]
    return [one for part in value for one in flat(part)]


def random(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_linear_layers_with_transposed_weights(models: Any, tmp_path: Path, cpu: Any) -> None:
    rng = np.random.default_rng(0)
    mod = imported(models.perceptron(models.pruned(rng), rows=6, width=96, layers=2), tmp_path)
    layers = find_layers(mod)
    assert [(layer.op, layer.problem.left) for layer in layers] == [("matmul", False)] * 2
    replaced = replace_layers(mod, operators(layers, cpu))
    x = random(6, 96)
    np.testing.assert_allclose(run(replaced, cpu, x)[0], run(mod, cpu, x)[0], rtol=1e-4, atol=1e-5)
    # bias and ReLU are tuned as before, and the products no longer
    names = [s.name for s in extract_subgraphs(fuse(replaced, cpu), cpu)]
    assert names == ["fused_add_relu"]


def test_convolutions_with_folded_batch_norm(tmp_path: Path, cpu: Any) -> None:
    ones = np.ones(12)
    weights = {
        "w": random(12, 5, 3, 3),
        "scale": 2 * ones,
        "shift": ones,
        "mean": ones,
        "variance": 4 * ones,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    mod = imported(graph(nodes, weights, (1, 5, 9, 9), (1, 12, 5, 5)), tmp_path)
    (layer,) = find_layers(mod)
    assert layer.op == "conv2d"
    # the weight that is packed is the folded one
    np.testing.assert_allclose(layer.weight, weights["w"].reshape(12, 45), rtol=1e-3)
    x = random(1, 5, 9, 9)
    replaced = replace_layers(mod, operators([layer], cpu))
    np.testing.assert_allclose(run(replaced, cpu, x)[0], run(mod, cpu, x)[0], rtol=1e-4, atol=1e-5)


def test_two_layers_with_one_weight_are_both_replaced(tmp_path: Path, cpu: Any) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    mod = imported(graph(nodes, {"w": random(40, 40)}, (2, 3, 40), (2, 3, 40)), tmp_path)
    first, second = find_layers(mod)
    assert first.digest == second.digest
    operator = operators([first], cpu)[0]
    both = {0: operator, 1: operator.with_tau("second", 0.0)}
    x = random(2, 3, 40)
    got = run(replace_layers(mod, both), cpu, x)[0]
    np.testing.assert_allclose(got, run(mod, cpu, x)[0], rtol=1e-4, atol=1e-4)
    # one alone can be replaced, too
    one = replace_layers(mod, {1: operator})
    assert [layer.index for layer in find_layers(one)] == [0]


def test_a_weight_on_the_left(tmp_path: Path, cpu: Any) -> None:
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"])]
    mod = imported(graph(nodes, {"w": random(20, 33)}, (3, 33, 50), (3, 20, 50)), tmp_path)
    (layer,) = find_layers(mod)
    assert (layer.problem.left, layer.problem.batch) == (True, 3)
    x = random(3, 33, 50)
    got = run(replace_layers(mod, operators([layer], cpu)), cpu, x)[0]
    np.testing.assert_allclose(got, run(mod, cpu, x)[0], rtol=1e-4, atol=1e-4)


def test_products_without_one_constant_matrix_are_left_alone(tmp_path: Path, cpu: Any) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=4),
        helper.make_node("MatMul", ["c", "stack"], ["d"]),
        helper.make_node("MatMul", ["d", "d"], ["y"]),
    ]
    weights = {"w": random(4, 1, 1, 1), "stack": random(4, 6, 6)}
    mod = imported(graph(nodes, weights, (1, 4, 6, 6), (1, 4, 6, 6)), tmp_path)
    assert find_layers(mod) == []
    assert replace_layers(mod, {}) is mod


def test_a_probe_takes_taus_and_gives_norms_and_activations(
    models: Any, tmp_path: Path, cpu: Any
) -> None:
    rng = np.random.default_rng(0)
    mod = imported(models.perceptron(models.dense(rng), rows=5, width=64, layers=2), tmp_path)
    layers = find_layers(mod)
    made = operators(layers, cpu)
    probe = probe_layers(mod, made, inputs=True)
    x, zero, huge = random(5, 64), np.zeros(1, np.float32), np.full(1, 1e30, np.float32)
    y, norms, second_norms, first, second = run(probe, cpu, x, zero, zero)
    np.testing.assert_allclose(y, run(mod, cpu, x)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first, x)
    assert norms.shape == second_norms.shape == (1, 2)
    halves = np.split(second.astype(np.float64), 2, axis=1)
    np.testing.assert_allclose(second_norms[0], [np.linalg.norm(h) for h in halves], rtol=1e-5)
    # a layer that skips everything leaves its bias, zero here
    assert not run(probe, cpu, x, zero, huge)[0].any()


def test_a_layer_alone_is_the_layer_and_a_relu(tmp_path: Path, cpu: Any) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weight = random(24, 30)
    mod = imported(graph(nodes, {"w": weight}, (7, 24), (7, 30)), tmp_path)
    (layer,) = find_layers(mod)
    x = random(7, 24)
    for operator in (None, operators([layer], cpu)[0]):
        got = run(layer_module(layer, operator), cpu, x)[0]
        np.testing.assert_allclose(got, np.maximum(x @ weight, 0), rtol=1e-4, atol=1e-5)
