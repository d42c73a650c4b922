"""Models given as objects: loaded as files are, told apart, and left as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper

from familyseer.errors import UserError
from familyseer.models import LoadedModel, load_given
from familyseer.tvm_env import load_tvm
from tests.familyseer.api.models import OPSETS, RELAX, token_inputs, token_model, token_outputs


def run(model: LoadedModel, *arrays: Any) -> list[np.ndarray[Any, Any]]:
    tvm = load_tvm(intrinsics=True)
    vm = tvm.relax.VirtualMachine(tvm.compile(model.mod, "llvm"), tvm.cpu())
    result = vm["main"](*[tvm.runtime.tensor(array) for array in arrays])
    return [result.numpy()] if hasattr(result, "numpy") else [one.numpy() for one in result]


@pytest.mark.parametrize("opset", OPSETS)
def test_an_onnx_model_of_any_opset_is_loaded(opset: int) -> None:
    inputs = token_inputs()
    model = load_given(token_model(opset), "tokens")
    assert [(one.name, one.dtype, one.index_bound) for one in model.inputs] == [
        ("ids", "int64", 30),
        ("x", "float32", None),
    ]
    hidden, chosen = run(model, *inputs.values())
    want = token_outputs(inputs)
    np.testing.assert_allclose(hidden, want["hidden"], rtol=1e-4, atol=1e-4)
    assert chosen.dtype == np.int64
    np.testing.assert_array_equal(chosen, want["chosen"])


def test_an_onnx_model_is_left_as_it_is() -> None:
    given = token_model(rows="rows")
    before = given.SerializeToString(deterministic=True)
    model = load_given(given, "tokens", input_shapes={"ids": (2, 4)})
    assert [one.shape for one in model.inputs] == [(2, 4), (2, 4, 16)]
    assert given.SerializeToString(deterministic=True) == before


def test_open_shapes_have_to_be_given() -> None:
    with pytest.raises(UserError, match=r"tokens: input ids has dynamic dims"):
        load_given(token_model(rows="rows"), "tokens")


def test_digests_tell_models_apart_and_nothing_else() -> None:
    def digest(change: Any = lambda _: None, **given: Any) -> str:
        model = token_model(**given)
        change(model)
        return load_given(model, "tokens").digest

    def other_weight(model: onnx.ModelProto) -> None:
        array = numpy_helper.to_array(model.graph.initializer[1]).copy()
        array[3, 4] += 1e-3
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "w"))

    def other_operator(model: onnx.ModelProto) -> None:
        model.graph.node[3].op_type = "Sigmoid"

    assert digest() == digest() == load_given(token_model(), "another name").digest
    assert len({digest(), digest(other_weight), digest(other_operator), digest(rows=3)}) == 4


def test_an_onnx_model_without_its_weights_is_refused() -> None:
    model = token_model()
    external_data_helper.set_external_data(model.graph.initializer[1], "weights.bin")
    with pytest.raises(UserError, match=r"^tokens: the weight w is in a file beside the model"):
        load_given(model, "tokens")


@pytest.fixture
def relax_module() -> Any:
    return load_tvm(intrinsics=True).script.from_source(RELAX)


def test_a_relax_module_is_loaded(relax_module: Any) -> None:
    model = load_given(relax_module, "module", input_shapes={"x": (4, 16)})
    assert [(one.name, one.shape) for one in model.inputs] == [("x", (4, 16)), ("w", (16, 8))]
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(one.shape).astype("float32") for one in model.inputs)
    np.testing.assert_allclose(run(model, x, w)[0], np.maximum(x @ w, 0), rtol=1e-4, atol=1e-4)


def test_a_relax_module_of_several_functions_is_refused(relax_module: Any) -> None:
    relax_module["other"] = relax_module["main"].with_attr("global_symbol", "other")
    with pytest.raises(UserError, match="its Relax functions are main, other; expected main alone"):
        load_given(relax_module, "module")


def test_digests_of_relax_modules_know_their_weights() -> None:
    relax = load_tvm(intrinsics=True).relax

    def digest(value: float) -> str:
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType((4, 4), "float32"))
        with builder.function("main", [x]):
            weight = relax.const(np.full((4, 4), value, "float32"))
            builder.emit_func_output(builder.emit(relax.op.add(x, weight)))
        return load_given(builder.get(), "m").digest

    assert digest(1.0) == digest(1.0) != digest(2.0)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model of type dict: expected a path, a name"):
        load_given({}, "x")
